"""Mutations of bytes, with a seed that repeats them; HDF5's checksums are put right afterwards."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

# Values at the edges of what counts, sizes and offsets are stored in.
EDGES = tuple(
    edge
    for bits in (8, 16, 32, 64)
    for edge in (0, 1, (1 << bits) - 1, (1 << bits) - 2, 1 << (bits - 1), (1 << (bits - 1)) - 1)
)
MOST_EDITS = 6


def mutate(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """``data`` with one to six edits; ``others`` lend pieces."""
    found = bytearray(data)
    for _ in range(rng.randint(1, MOST_EDITS)):
        rng.choice(EDITS)(found, others, rng)
    return bytes(found)


def mutate_in_place(data: bytes, rng: random.Random) -> bytearray:
    """``data`` with one to six edits that keep every byte at its place."""
    found = bytearray(data)
    for _ in range(rng.randint(1, MOST_EDITS)):
        rng.choice(SAME_SIZE)(found, (), rng)
    return found


def _place(found: bytearray, rng: random.Random) -> int:
    return rng.randrange(len(found)) if found else 0


def _flip_bit(found: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    if found:
        found[_place(found, rng)] ^= 1 << rng.randrange(8)


def _set_byte(found: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    if found:
        found[_place(found, rng)] = rng.randrange(256)


def _add(found: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    if found:
        place = _place(found, rng)
        found[place] = (found[place] + rng.choice((-3, -2, -1, 1, 2, 3, 16))) % 256


def _set_edge(found: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    size = rng.choice((1, 2, 4, 8))
    place = _place(found, rng)
    value = rng.choice(EDGES) & ((1 << 8 * size) - 1)
    piece = value.to_bytes(size, rng.choice(("little", "little", "big")))
    found[place : place + size] = piece[: max(0, len(found) - place)]


def _copy_within(found: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    if len(found) > 1:
        size = rng.randint(1, min(16, len(found)))
        source, target = (rng.randrange(len(found) - size + 1) for _ in range(2))
        found[target : target + size] = found[source : source + size]


def _delete(found: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    place = _place(found, rng)
    del found[place : place + rng.choice((1, 1, 2, 4, 8, 64))]


def _insert(found: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    place = _place(found, rng)
    found[place:place] = rng.randbytes(rng.choice((1, 1, 2, 4, 8)))


def _repeat(found: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    place = _place(found, rng)
    piece = found[place : place + rng.randint(1, 32)]
    found[place:place] = bytes(piece) * rng.choice((1, 2, 8))


def _truncate(found: bytearray, _: Sequence[bytes], rng: random.Random) -> None:
    del found[_place(found, rng) :]


def _borrow(found: bytearray, others: Sequence[bytes], rng: random.Random) -> None:
    other = rng.choice(others) if others else b""
    if other:
        start = rng.randrange(len(other))
        place = _place(found, rng)
        piece = other[start : start + rng.randint(1, 64)]
        found[place : place + rng.choice((0, len(piece)))] = piece


Edit = Callable[[bytearray, Sequence[bytes], random.Random], None]
SAME_SIZE: tuple[Edit, ...] = (_flip_bit, _set_byte, _add, _set_edge, _set_edge, _copy_within)
EDITS: tuple[Edit, ...] = (*SAME_SIZE, _delete, _insert, _repeat, _truncate, _borrow)


# --- HDF5 metadata that carries a checksum --------------------------------------------------------

SIGNED = (
    b"\x89HDF", b"OHDR", b"OCHK", b"FRHP", b"FHDB", b"FHIB", b"BTHD", b"BTLF", b"BTIN", b"FAHD",
    b"FADB", b"EAHD", b"EAIB", b"EASB", b"EADB", b"FSHD", b"FSSE", b"SMTB", b"SMLI",
)  # fmt: skip
LONGEST_STRUCTURE = 1024


def find_checksums(data: bytes) -> list[tuple[int, int]]:
    """(start, end) of every structure whose Jenkins checksum stands at ``end``.

    They are searched for: a length belongs where the four bytes behind it are its checksum.
    """
    found = []
    for signature in SIGNED:
        start = data.find(signature)
        while start >= 0:
            last = min(start + LONGEST_STRUCTURE, len(data) - 4)
            for end in range(start + 8, last + 1):
                if lookup3(data[start:end]) == int.from_bytes(data[end : end + 4], "little"):
                    found.append((start, end))
                    break
            start = data.find(signature, start + 1)
    return found


def renew_checksums(data: bytearray, places: Sequence[tuple[int, int]]) -> None:
    """Write the checksums that the mutated structures have now."""
    for start, end in places:
        data[end : end + 4] = lookup3(bytes(data[start:end])).to_bytes(4, "little")


def _rotate(value: int, count: int) -> int:
    return ((value << count) | (value >> (32 - count))) & 0xFFFFFFFF


def lookup3(data: bytes) -> int:
    """HDF5's metadata checksum: Bob Jenkins' lookup3 of 2006, ``hashlittle`` from 0 on."""
    mask = 0xFFFFFFFF
    a = b = c = (0xDEADBEEF + len(data)) & mask
    if not data:
        return c
    blocks = (len(data) - 1) // 12
    for index in range(blocks):
        start = 12 * index
        a = (a + int.from_bytes(data[start : start + 4], "little")) & mask
        b = (b + int.from_bytes(data[start + 4 : start + 8], "little")) & mask
        c = (c + int.from_bytes(data[start + 8 : start + 12], "little")) & mask
        a = ((a - c) & mask) ^ _rotate(c, 4)
        c = (c + b) & mask
        b = ((b - a) & mask) ^ _rotate(a, 6)
        a = (a + c) & mask
        c = ((c - b) & mask) ^ _rotate(b, 8)
        b = (b + a) & mask
        a = ((a - c) & mask) ^ _rotate(c, 16)
        c = (c + b) & mask
        b = ((b - a) & mask) ^ _rotate(a, 19)
        a = (a + c) & mask
        c = ((c - b) & mask) ^ _rotate(b, 4)
        b = (b + a) & mask
    tail = data[12 * blocks :].ljust(12, b"\0")
    a = (a + int.from_bytes(tail[:4], "little")) & mask
    b = (b + int.from_bytes(tail[4:8], "little")) & mask
    c = (c + int.from_bytes(tail[8:12], "little")) & mask
    for x, shift in (("c", 14), ("a", 11), ("b", 25), ("c", 16), ("a", 4), ("b", 14), ("c", 24)):
        if x == "c":
            c = ((c ^ b) - _rotate(b, shift)) & mask
        elif x == "a":
            a = ((a ^ c) - _rotate(c, shift)) & mask
        else:
            b = ((b ^ a) - _rotate(a, shift)) & mask
    return c
