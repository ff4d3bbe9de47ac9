"""A captured file, read back: its heads, and the rows that each node made."""

from __future__ import annotations

import os
from contextlib import closing
from typing import Any

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.core.record import frozen
from roicli.core.types import Array
from roicli.pipeline.capture.store import IMAGE_SIZES, LEVELS, RESULT, ROIS, VERSION, StoredHead
from roicli.storage.address import Address, parse_address
from roicli.storage.limits import check_memory
from roicli.storage.open import open_array


@frozen
class HeadRows:
    """A head's RoIs (K, 5), the places of their nodes (K,) in it, and the nodes' own results."""

    rois: Array
    node_of_roi: Array
    result: Array


def is_capture(path: str) -> bool:
    """Whether a path is named as what ``capture`` writes, and not as a model."""
    return os.path.splitext(path)[1].lower() in (".h5", ".hdf5")


def read_heads(path: str) -> list[StoredHead]:
    """The heads of a captured file. Raises InputError where it is none."""
    try:
        with closing(open_array(Address(path, IMAGE_SIZES), "any")) as sizes:
            said = sizes.file_attributes
    except InputError as error:
        if not os.path.isfile(path):
            raise
        raise _no_capture(path) from error
    if "capture_version" not in said:
        raise _no_capture(path)
    if int(said["capture_version"]) != VERSION:
        raise InputError(
            f"{path}: is of capture version {said['capture_version']}, expected {VERSION}"
        )
    names = np.asarray(said.get("heads", ())).reshape(-1).tolist()
    return [_read_head(path, foreign(str(name))) for name in names if str(name) != "none"]


def _no_capture(path: str) -> InputError:
    return InputError(f"{path}: is no file that capture wrote", "roicli capture MODEL.onnx -o FILE")


def _read_head(path: str, name: str) -> StoredHead:
    with closing(open_array(Address(path, f"{name}/{ROIS}"), "rois")) as rois:
        text: Any = rois.group_attributes.get("capture", "")
    try:
        return StoredHead.from_json(text if isinstance(text, str) else text.decode())
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{path}: group {name} does not say what was captured") from error


def read_rows(path: str, head: StoredHead) -> HeadRows:
    """The rows of a head, all in memory. Raises InputError."""
    rois, result = (_read(path, f"{head.name}/{part}") for part in (ROIS, RESULT))
    if len(head.nodes) == 1:
        return HeadRows(rois, np.zeros(len(rois), np.int64), result)
    levels = _read(path, f"{head.name}/{LEVELS}")
    place = {number: index for index, number in enumerate(head.numbers)}
    return HeadRows(rois, np.array([place.get(int(one), -1) for one in levels], np.int64), result)


def _read(path: str, name: str) -> Array:
    with closing(open_array(parse_address(f"{path}::{name}"), "any")) as stored:
        size = int(np.prod(stored.shape, dtype=float)) * stored.dtype.itemsize
        check_memory(stored.name, "its values", size)
        return stored.read_all()
