"""RoIs that a Python program hands over: an array, a table, or what there is of each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from roicli.core.exceptions import ParameterError, first_line
from roicli.core.types import Array
from roicli.pipeline.request import Reading
from roicli.pipeline.roi_images import IMAGE_COLUMN, BoxesOfImages
from roicli.storage.exchange import (
    TAKEN,
    columns_of_detections,
    make_table,
    open_object,
    open_table,
    read_object,
)
from roicli.storage.table import RoiSource, Table


def open_given_rois(rois: Any, reading: Reading) -> RoiSource:
    """RoIs that are no address: an array (K, 5), (K, 4) or of records; a mapping of columns or a
    frame; a list of boxes (L, 4), an image each, or of such mappings, as detectors give.

    Raises InputError, ParameterError.
    """
    name = "rois"
    table = open_table(rois, name)
    if table is not None:
        return table
    if isinstance(rois, list | tuple) and rois:
        rois = [columns_of_detections(one) for one in rois]
        if all(isinstance(one, Mapping) for one in rois):
            if all(one and not any(map(np.ndim, one.values())) for one in rois):
                return columns_of_rows(rois, name)
            return make_table(_join(rois, name), name)
        if all(map(_has_rows, rois)):
            for number, one in enumerate(rois):
                _check_format(one, f"{name}[{number}]", reading)
            boxes = [_read(one, f"{name}[{number}]") for number, one in enumerate(rois)]
            return _check_width(BoxesOfImages(boxes), reading)
    _check_format(rois, name, reading)
    return open_object(rois, name, "rois")


def columns_of_rows(rows: Sequence[Mapping[str, Any]], name: str) -> Table:
    """The table of records, a RoI each, as ``DataFrame.to_dict("records")`` gives them."""
    names = list(dict.fromkeys(key for one in rows for key in one))
    return make_table({key: np.array([one.get(key) for one in rows]) for key in names}, name)


def _read(value: Any, name: str) -> Array:
    """An array, or a list of rows."""
    return read_object(np.asarray(value) if isinstance(value, list | tuple) else value, name)


def _has_rows(value: Any) -> bool:
    """Whether this is a list of boxes rather than one: two axes, or nothing at all."""
    shape = getattr(value, "shape", None)
    if shape is None and isinstance(value, list | tuple):
        first = next(iter(value), None)
        return first is None or isinstance(first, list | tuple) or bool(np.ndim(first))
    return shape is not None and (len(shape) == 2 or tuple(shape) == (0,))


def _check_width(boxes: BoxesOfImages, reading: Reading) -> BoxesOfImages:
    if boxes.shape[1] != 4 and reading.roi_columns is None:
        raise ParameterError(
            f"rois: {boxes.form} of boxes with {boxes.shape[1]} columns, expected (L, 4) of each",
            'name the columns: roi_columns="x1,y1,x2,y2,score"',
        )
    return boxes


def _check_format(boxes: Any, name: str, reading: Reading) -> None:
    """Raise ParameterError where boxes say themselves, as torchvision's tv_tensors do, that they
    are no corners, and nobody else says so.
    """
    said = getattr(getattr(boxes, "format", None), "name", None)
    if isinstance(said, str) and said.lower() != (reading.roi_format or "xyxy"):
        raise ParameterError(
            f"{name}: the boxes are {said}, expected {(reading.roi_format or 'xyxy').upper()}",
            f"say what they are: roi_format={said.lower()!r}",
        )


def _join(images: Sequence[Mapping[str, Any]], name: str) -> dict[str, Array]:
    """The columns of what each image has, one after another, and the image's number.

    An image without RoIs need not have all columns.
    """
    read = [
        {key: _read(values, f"{name}[{number}][{key!r}]") for key, values in one.items()}
        for number, one in enumerate(images)
    ]
    counts = [max((len(v) for v in one.values() if v.ndim), default=0) for one in read]
    model = next((number for number, count in enumerate(counts) if count), 0)
    filled = [one for one, count in zip(read, counts, strict=True) if count] or read[:1]
    if not read[model]:
        raise ParameterError(f"{name}[{model}] is empty, expected columns by their names", TAKEN)
    for number, one in enumerate(read):
        if counts[number] and one.keys() != read[model].keys():
            raise ParameterError(
                f"{name}[{number}] has {', '.join(map(str, one))}, expected what {name}[{model}] "
                f"has: {', '.join(map(str, read[model]))}"
            )
    joined = {IMAGE_COLUMN: np.repeat(np.arange(len(images)), counts)}
    for key in read[model]:
        try:
            joined[key] = np.concatenate([one[key] for one in filled])
        except ValueError as error:
            raise ParameterError(
                f"{name}: {key} of the images: {first_line(error)}", "give a row a box"
            ) from error
    return joined
