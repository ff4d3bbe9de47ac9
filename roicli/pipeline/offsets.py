"""The offsets of an operator that moves its bins: an array beside the RoIs, row by row."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from roicli.core.exceptions import InputError, ParameterError
from roicli.core.types import FloatArray, IntArray
from roicli.operators.interface import OperatorSpec
from roicli.pipeline.features import FeatureArgument
from roicli.storage.address import parse_address, split_name
from roicli.storage.array import MemoryArray, SelectedRows, StoredArray
from roicli.storage.limits import check_memory, external_files
from roicli.storage.open import open_array

if TYPE_CHECKING:
    from roicli.pipeline.inputs import Inputs

logger = logging.getLogger("roicli")


def take_offsets(
    inputs: Inputs, spec: OperatorSpec, source: FeatureArgument | None, allow_external: bool
) -> Inputs:
    """The inputs with the offsets of their RoIs: a row of ``source`` for each row of their file.

    Raises InputError where they do not fit or are not finite, ParameterError for offsets of an
    operator that has none.
    """
    if not spec.offset_shape:
        if source is not None:
            raise ParameterError(f"offsets are given, and {spec.name} has none", "drop --offsets")
        return inputs
    if source is None:
        logger.info("no --offsets: every bin is where it is without them")
        return inputs
    with external_files(allow_external):
        stored = _open(source)
        try:
            _check_shape(stored, inputs, spec.offset_shape)
            rows = inputs.row_numbers
            chosen = stored if rows is None else SelectedRows(stored, rows)
            check_memory(stored.name, "the offsets", math.prod(chosen.shape) * 4)
            values = chosen.read_all()
        finally:
            stored.close()
    offsets: FloatArray = np.asarray(values, np.result_type(values, np.float32))
    _check_finite(offsets, stored.name, rows)
    name, dataset = split_name(stored.name)
    return replace(
        inputs,
        rois=replace(inputs.rois, offsets=offsets),
        files={**inputs.files, **stored.files},
        described={**inputs.described, "offsets_name": name, "offsets_dataset": dataset},
    )


def _open(source: FeatureArgument) -> StoredArray:
    if isinstance(source, str | os.PathLike):
        return open_array(parse_address(source), "features")
    return MemoryArray(np.asarray(source), "offsets")


def _check_shape(stored: StoredArray, inputs: Inputs, offset_shape: tuple[int, ...]) -> None:
    count, *shape = stored.shape or (0,)
    rows = inputs.row_numbers
    if rows is None:
        fits, wanted = count == len(inputs.rois), f"{len(inputs.rois):,}"
    else:
        last = int(rows[-1]) + 1 if len(rows) else 0
        fits, wanted = count >= last, f"at least {last:,}, a row for every row of the RoIs' file"
    if not fits or tuple(shape) != offset_shape:
        sides = ", ".join(map(str, offset_shape))
        raise InputError(
            f"{stored.name}: offsets of shape {tuple(stored.shape)}, expected (K, {sides}), K "
            f"{wanted}: the shifts of every bin, x then y",
            "give --output-size as the offsets have it, and the offsets of these RoIs",
        )


def _check_finite(offsets: FloatArray, name: str, rows: IntArray | None) -> None:
    bad = np.flatnonzero(~np.isfinite(offsets).all(axis=(1, 2, 3)))
    if len(bad):
        row = bad[0] if rows is None else rows[bad[0]]
        raise InputError(
            f"{name}: row {row}: an offset that is not finite, in {len(bad):,} of "
            f"{len(offsets):,} rows"
        )
