"""Attributes of files and datasets as plain values, which can be shown."""

from __future__ import annotations

from typing import Any

import numpy as np

# A longer attribute is shown by its beginning.
ATTRIBUTE_ITEMS = 16
ATTRIBUTE_CHARACTERS = 500


def plain_attributes(attributes: Any) -> dict[str, Any]:
    """Attributes as numbers, texts and lists of them; long ones by their beginning."""
    found = {}
    for name in attributes:
        try:
            found[name] = _plain_value(attributes[name])
        except (OSError, TypeError, ValueError) as error:
            found[name] = f"cannot be read: {error}"
    return found


def _plain_value(value: Any) -> Any:
    if isinstance(value, bytes | str):
        text = value if isinstance(value, str) else value.decode(errors="replace")
        cut = len(text) > ATTRIBUTE_CHARACTERS
        return f"{text[:ATTRIBUTE_CHARACTERS]}..." if cut else text
    array = np.asarray(value)
    items = [_plain_item(item) for item in array.reshape(-1)[:ATTRIBUTE_ITEMS].tolist()]
    if array.size > ATTRIBUTE_ITEMS:
        items.append("...")
    return items[0] if array.ndim == 0 else items


def _plain_item(item: Any) -> Any:
    if isinstance(item, bytes):
        return item.decode(errors="replace")
    if isinstance(item, float) and not np.isfinite(item):
        return str(item)
    return item if isinstance(item, bool | int | float | str) else str(item)
