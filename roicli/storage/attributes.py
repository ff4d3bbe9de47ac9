"""Attributes of files and datasets as plain values, which can be shown."""

from __future__ import annotations

from typing import Any

import numpy as np

from roicli.core.foreign import foreign, raw_text

# A longer attribute is shown by its beginning.
ATTRIBUTE_ITEMS = 16
ATTRIBUTE_CHARACTERS = 500


def plain_attributes(attributes: Any) -> dict[str, Any]:
    """Attributes as numbers, texts and lists of them; long ones by their beginning."""
    found: dict[str, Any] = {}
    for name in attributes:
        try:
            found[foreign(name)] = _plain_value(attributes[name])
        except (OSError, TypeError, ValueError) as error:
            found[foreign(name)] = foreign(f"cannot be read: {error}")
    return found


def _plain_value(value: Any) -> Any:
    if isinstance(value, bytes | str):
        cut = len(value) > ATTRIBUTE_CHARACTERS
        text = raw_text(foreign(value[:ATTRIBUTE_CHARACTERS]))
        return foreign(f"{text}..." if cut else text)
    array = np.asarray(value)
    items = [_plain_item(item) for item in array.reshape(-1)[:ATTRIBUTE_ITEMS].tolist()]
    if array.size > ATTRIBUTE_ITEMS:
        items.append("...")
    return items[0] if array.ndim == 0 else items


def _plain_item(item: Any) -> Any:
    if isinstance(item, bool | int) or (isinstance(item, float) and np.isfinite(item)):
        return item
    return foreign(item if isinstance(item, bytes | str) else str(item))
