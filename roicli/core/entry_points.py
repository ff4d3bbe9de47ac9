"""What installed packages bring to roicli, by their entry points."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TypeVar

from roicli.core.exceptions import InputError, first_line

Brought = TypeVar("Brought")


def load_entry_points(group: str, kind: type[Brought]) -> tuple[Brought, ...]:
    """The objects of ``kind`` that the entry points of a group name, one each or in a tuple.

    Raises InputError for an entry point that cannot be imported, or that names something else.
    """
    found: list[Brought] = []
    for one in entry_points(group=group):
        said = f"{group}: {one.name}: {one.value}"
        try:
            brought = one.load()
        except Exception as error:  # whatever a package's import raises
            raise InputError(
                f"{said} cannot be loaded: {first_line(error)}",
                "mend or uninstall the package that brings it",
            ) from error
        is_one = isinstance(brought, kind) or not isinstance(brought, tuple)
        for item in (brought,) if is_one else brought:
            if not isinstance(item, kind):
                raise InputError(f"{said} is no {kind.__module__}.{kind.__name__}")
            found.append(item)
    return tuple(found)
