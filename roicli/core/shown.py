"""What a notebook shows of a record: asked of ``render.notebook``, which nothing imports before.

It is the one look upwards of the house, by name, as the package's own front is.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Shown:
    """A record that a notebook shows as a table, or as the text that its command prints."""

    def _repr_html_(self) -> str:
        return str(_notebook().write_html(self))


class Drawn:
    """A record that is a picture."""

    def _repr_svg_(self) -> str:
        return str(_notebook().write_svg(self))


def _notebook() -> Any:
    return import_module("roicli.render.notebook")
