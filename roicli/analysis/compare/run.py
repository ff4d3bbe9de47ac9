"""Two stored results against each other, block by block: are they equal, and where are they not.

Integers are compared as integers. Maxima, means and the measures of a row or channel are exact to
float64's rounding, whatever the size of the numbers (``norms``); the 99th percentile and the
histogram come from log-spaced counts (``magnitude_counts``). What is held at once is one block of
each array and 100 bytes a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Unpack

import numpy as np

from roicli.analysis.compare.alignment import align_axes, find_rows, find_turned_bins
from roicli.analysis.compare.difference import Block, GroupDifference, Tolerance, Totals
from roicli.analysis.compare.magnitudes import HistogramBin
from roicli.analysis.compare.ulp import shared_float_type
from roicli.analysis.result.axes import TakenRows
from roicli.analysis.result.rows import RowMatch
from roicli.analysis.result.source import ResultArgument, open_stored_result
from roicli.core.declaration import check_known, record, settle
from roicli.core.exceptions import InputError, ParameterError
from roicli.core.foreign import foreign
from roicli.core.look_options import CompareOptions
from roicli.core.record import frozen
from roicli.core.shown import Shown
from roicli.core.vocabulary import ComparedStatistic
from roicli.storage.address import STDIN
from roicli.storage.array import StoredArray
from roicli.storage.limits import external_files
from roicli.storage.open import inputs_unchanged

# Stored bytes of one block; its float64 differences and what is summed of them take 30 times that.
BLOCK_BYTES = 1 << 20
# Rows that are looked at more closely where results differ.
MOST_LOOKED_AT = 64
# Two runs of the same thing differ in these.
NOT_COMPARED = ("created_utc",)


@frozen
class ProvenanceDifference:
    """One attribute that the results were written with; None where that file has none."""

    name: str
    a: Any
    b: Any


@frozen
class UlpDifference:
    """Distances in units in the last place of ``dtype``, the narrower type of the two."""

    dtype: str
    max: int
    mean: float


@frozen
class Comparison(Shown):
    """What a comparison found.

    ``outside`` counts elements past the elementwise limit, ``not_finite`` those where a NaN or an
    infinity meets something else: then nothing is equal. ``measured`` and ``limit`` are what
    ``statistic`` came to and may come to; for elementwise the largest difference less its limit,
    and 0.
    What is past the largest float64 is given as that. ``ulp`` is None where one dtype is whole,
    ``provenance`` unless both files have attributes. ``axes`` says in words how the axes of one
    were read, or in which order they would be equal; None where both are alike as they are.
    ``rows`` are the rows of A and B that are the same RoI's, None where each is the other's of its
    number: with ``rows_matched`` these are compared, and ``equal_where_matched`` says whether they
    are equal. ``rounded``: they are equal because one is the other rounded to its dtype.
    """

    equal: bool
    names: tuple[str, str]
    shape: tuple[int, ...]
    dtypes: tuple[str, str]
    tolerance: Tolerance
    measured: float
    limit: float
    elements: int
    identical: int
    outside: int
    not_finite: int
    max_difference: float
    mean_difference: float
    p99_difference: float
    relative_l2: float
    cosine: float
    ulp: UlpDifference | None
    histogram: tuple[HistogramBin, ...]
    worst_rois: tuple[GroupDifference, ...]
    worst_channels: tuple[GroupDifference, ...]
    provenance: tuple[ProvenanceDifference, ...] | None
    axes: str | None = None
    rows: RowMatch | None = None
    rows_matched: bool = False
    equal_where_matched: bool | None = None
    rounded: bool = False


def read_blocks(a: StoredArray, b: StoredArray, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """Both arrays, as many rows at a time as fit, at least one."""
    row = math.prod(a.shape[1:])
    step = max(1, block_bytes // max(row * max(a.dtype.itemsize, b.dtype.itemsize), 1))
    shape = (a.shape[1], math.prod(a.shape[2:])) if len(a.shape) > 1 else (1, 1)
    for first in range(0, a.shape[0] if row else 0, step):
        count = min(step, a.shape[0] - first)
        parts = []
        for source in (a, b):
            values = np.empty((count, *source.shape[1:]), source.dtype)
            source.read_rows_into(first, values)
            parts.append(values.reshape(count, *shape))
        yield Block(first, *parts)


def compare_stored(
    a: StoredArray,
    b: StoredArray,
    tolerance: Tolerance,
    worst: int | None = 10,
    block_bytes: int = BLOCK_BYTES,
    match_rows: bool = False,
) -> Comparison:
    """Compare two open arrays; ``worst`` RoIs and channels are listed, None for all.

    The first axis are the RoIs, the second the channels. Differences are float64. Where shapes or
    values differ, A may have its axes or its rows in another order, or not all of B's rows: that is
    found, and rows in another order or missing make results different unless ``match_rows`` accepts
    it. Raises InputError where neither shapes nor rows can be brought together.
    """
    a, b, axes = align_axes(a, b)
    found = None
    if a.shape == b.shape:
        found = _compare_as_they_are(a, b, tolerance, worst, block_bytes)
        if found.equal:
            return replace(found, axes=axes)
    differing = () if found is None else [roi.index for roi in found.worst_rois[:MOST_LOOKED_AT]]
    rows = find_rows(a, b, differing)
    if rows is None and found is None:
        raise InputError(
            f"{a.name} has shape {a.shape} and {b.name} {b.shape}, expected two equal shapes",
            "few rows of one are found in the other, so these are no results of the same RoIs",
        )
    if rows is not None:
        return _compare_rows(a, b, rows, found, axes, tolerance, worst, block_bytes, match_rows)
    assert found is not None

    def is_equal(turned: StoredArray) -> bool:
        return _compare_as_they_are(turned, b, tolerance, 0, block_bytes).equal

    return replace(found, axes=axes or find_turned_bins(a, b, is_equal))


def _compare_rows(
    a: StoredArray,
    b: StoredArray,
    rows: RowMatch,
    found: Comparison | None,
    axes: str | None,
    tolerance: Tolerance,
    worst: int | None,
    block_bytes: int,
    match_rows: bool,
) -> Comparison:
    """The rows that were matched; ``found`` is what came out row by row, where that could be."""
    sides = TakenRows(a, rows.a), TakenRows(b, rows.b)
    matched = _compare_as_they_are(*sides, tolerance, worst, block_bytes)
    worst_rois = tuple(replace(r, index=int(rows.b[r.index])) for r in matched.worst_rois)
    matched = replace(matched, worst_rois=worst_rois)
    is_shown = match_rows or found is None
    shown = matched if is_shown else found
    assert shown is not None
    return replace(
        shown, equal=matched.equal and match_rows, axes=axes, rows=rows,
        rows_matched=is_shown, equal_where_matched=matched.equal,
    )  # fmt: skip


def _compare_as_they_are(
    a: StoredArray, b: StoredArray, tolerance: Tolerance, worst: int | None, block_bytes: int
) -> Comparison:
    """Compare two arrays of one shape, row by row."""
    totals = Totals(a.shape, tolerance, shared_float_type(a.precision, b.precision))
    with np.errstate(invalid="ignore"):  # widening a signalling NaN
        for block in read_blocks(a, b, block_bytes):
            totals.add(block)
    return _finish(a, b, tolerance, totals, worst)


def _finish(
    a: StoredArray, b: StoredArray, tolerance: Tolerance, totals: Totals, worst: int | None
) -> Comparison:
    measured, limit = totals.measured_and_limit()
    ulp = None
    if totals.ulp_type is not None:
        ulp = UlpDifference(totals.ulp_type.name, totals.ulp_max, totals.ulp_mean)
    mean, relative_l2, cosine = totals.rows.overall()
    within = totals.outside == 0 if tolerance.statistic == "elementwise" else measured <= limit
    # Of two precisions the coarser decides: what only was rounded to it is the same.
    rounded = not within and a.precision != b.precision and ulp is not None and ulp.max == 0
    return Comparison(
        (within or rounded) and totals.not_finite == 0,
        (a.name, b.name),
        a.shape,
        (a.precision.name, b.precision.name),
        tolerance,
        measured,
        limit,
        math.prod(a.shape),
        totals.identical,
        totals.outside + totals.not_finite,
        totals.not_finite,
        totals.max_difference(),
        mean,
        totals.differences.quantile(0.99),
        relative_l2,
        cosine,
        ulp,
        totals.differences.decades(),
        totals.rows.worst(worst),
        totals.channels.worst(worst) if len(a.shape) > 1 else (),
        compare_provenance(a.file_attributes, b.file_attributes),
        rounded=rounded,
    )


def compare_provenance(
    a: Mapping[str, Any], b: Mapping[str, Any]
) -> tuple[ProvenanceDifference, ...] | None:
    """The attributes in which two files differ, or None unless both have some."""
    if not a or not b:
        return None
    plain_a, plain_b = (
        {foreign(key): _plain(value) for key, value in side.items()} for side in (a, b)
    )
    names = [*plain_a, *(name for name in plain_b if name not in plain_a)]
    return tuple(
        ProvenanceDifference(name, plain_a.get(name), plain_b.get(name))
        for name in names
        if name not in NOT_COMPARED and plain_a.get(name) != plain_b.get(name)
    )


def _plain(value: Any) -> Any:
    """An HDF5 attribute as JSON can hold it."""
    if isinstance(value, bytes | str):
        return foreign(value)
    if isinstance(value, np.ndarray | np.generic):
        found = value.tolist()
        # Numbers that Python has no type for, like long doubles, stay what they are.
        return foreign(str(found)) if isinstance(found, np.generic) else _plain(found)
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return foreign(str(value))


@record(CompareOptions)
class CompareRequest:
    """What was asked of ``compare``."""

    atol: float
    rtol: float
    stat: ComparedStatistic
    equal_nan: bool
    worst: int | None
    match_rows: bool
    allow_external: bool


@inputs_unchanged()
def compare(
    a: ResultArgument,
    b: ResultArgument,
    **options: Unpack[CompareOptions],
) -> Comparison:
    """Compare two results, addresses (``file.h5``, ``file.h5::/dataset``, ``file.npy``) or arrays.

    An HDF5 file without a dataset's name means its ``/roi_features``. ``Comparison.equal`` tells
    whether they agree under ``Tolerance``; ``match_rows`` accepts rows in another order, and rows
    that one has alone; ``allow_external`` lets HDF5 files lead to others. Raises RoicliError where
    one cannot be read or the shapes have nothing in common.
    """
    check_known("compare", options, CompareOptions)
    request = settle(CompareRequest, options)
    tolerance = Tolerance(request.atol, request.rtol, request.stat, request.equal_nan)
    if isinstance(a, str) and isinstance(b, str) and a == b == STDIN:
        raise ParameterError("A and B are both '-', but stdin can be read only once")
    with external_files(request.allow_external), ExitStack() as stack:
        opened = []
        for argument, name in ((a, "a"), (b, "b")):
            opened.append(open_stored_result(argument, name))
            stack.callback(opened[-1].close)
        return compare_stored(
            opened[0], opened[1], tolerance, request.worst, match_rows=request.match_rows
        )
