"""Files that gzip packed: unpacked in pieces, as far as memory goes, and read as what is inside."""

from __future__ import annotations

import zlib
from typing import BinaryIO

from roicli.core.exceptions import InputError, first_line
from roicli.core.system import available_bytes

PIECE_BYTES = 1 << 20
# zlib's word for "with a header of gzip's".
GZIP = zlib.MAX_WBITS | 16
# What is inside takes several times as much once it is parsed.
SHARE_OF_MEMORY = 8


def unpack(stream: BinaryIO, name: str) -> bytes:
    """What is packed in a stream, of one member or several. Raises InputError."""
    parts: list[bytes] = []
    room = most = available_bytes() // SHARE_OF_MEMORY
    unpacker, pending = zlib.decompressobj(GZIP), b""
    try:
        while True:
            pending = pending or stream.read(PIECE_BYTES)
            if not pending:
                break
            if unpacker.eof:
                if not pending.strip(b"\0"):  # what fills up a tape or a block
                    pending = b""
                    continue
                unpacker = zlib.decompressobj(GZIP)
            parts.append(unpacker.decompress(pending, PIECE_BYTES))
            pending = unpacker.unconsumed_tail or unpacker.unused_data
            room -= len(parts[-1])
            if room < 0:
                raise InputError(
                    f"{name}: unpacks to more than {most:,} bytes, an eighth of the free memory",
                    "unpack it to a file first, if it is what it should be",
                )
    except zlib.error as error:
        raise InputError(f"{name}: cannot be unpacked: {first_line(error)}") from error
    if not unpacker.eof:
        raise InputError(f"{name}: is cut short: its gzip stream does not end")
    return b"".join(parts)
