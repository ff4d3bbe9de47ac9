"""Whether a result may go where it is to go, whatever its format."""

from __future__ import annotations

from collections.abc import Iterable

from roicli.storage.address import names_a_store
from roicli.storage.output import OUTPUT_FORMATS, check_output


def check_place(path: str, taken: Iterable[str], force: bool) -> None:
    """Raise OutputError unless a result may be written to ``path``: a file's or a store's rules.

    ``taken`` are the files that it must not replace.
    """
    if not names_a_store(path):
        check_output(path, taken, force, tuple(OUTPUT_FORMATS))
        return
    from roicli.storage.formats.zarr import publishing

    publishing.check_place(path, taken, force, tuple(OUTPUT_FORMATS))
