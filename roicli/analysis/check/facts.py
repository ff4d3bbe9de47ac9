"""Rules that count what is there: nothing is guessed. Each yields at most a finding a cause."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from roicli.analysis.check.inputs import CheckedInputs, RoiTable
from roicli.analysis.check.records import Draft, Limits
from roicli.core.types import Array, FloatArray
from roicli.pipeline.validation import (
    COORDINATE_NAMES,
    MAX_SAMPLES_BYTES,
    find_outside,
)

# Fewer RoIs than this on the fullest image say nothing about how they are spread.
FEW_ROIS = 20


def find_wrong_shape(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
    """R01: shapes that are not (N, C, H, W), or (C, H, W), and (K, 5)."""
    yield from inputs.shape_findings


def find_not_finite(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
    """R02: NaN, infinity, and numbers past float32 or the operators' 32-bit cells."""
    rois = _rois(inputs)
    rows = np.flatnonzero(~inputs.usable)
    if len(rows) == 0:
        return
    first = rois.corners[rows[0]]
    # Where the value itself can be held, it is the largest one that reaches too far.
    ranked = np.where(np.isfinite(first), np.abs(first), np.inf)
    place = int(np.argmax(ranked))
    yield _draft(
        rois, rows,
        f"RoIs hold NaN, infinity or a number that the operators cannot hold: row {rows[0]} "
        f"has {COORDINATE_NAMES['xyxy'][place]} = {first[place]:g}",
        "drop these rows; ONNX Runtime refuses them, or worse, gives zeros",
    )  # fmt: skip


def find_bad_batch_index(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
    """R03: batch indices that are not whole, or name no image."""
    rois = _rois(inputs)
    rows = np.flatnonzero(~is_image_number(rois.batch, images_of(inputs)))
    if len(rows) == 0:
        return
    last = "" if inputs.pyramid is None else f" to {inputs.pyramid.images - 1}"
    yield _draft(
        rois, rows,
        f"batch_index is not a whole number from 0{last}: row {rows[0]} has "
        f"{rois.batch[rows[0]]:g}",
        "the first column is the image's number in FEATURES, from 0; MaxRoiPool would give zeros",
    )  # fmt: skip


def find_crossed_corners(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
    """R04: x2 < x1 or y2 < y1."""
    rois = _rois(inputs)
    rows = np.flatnonzero(is_crossed(rois.corners) & inputs.usable)
    if len(rows) == 0:
        return
    shown = ", ".join(f"{value:g}" for value in rois.corners[rows[0]])
    yield _draft(
        rois, rows,
        f"corners are crossed (x2 < x1 or y2 < y1): row {rows[0]} has {shown}",
        "order the corners, or say what the numbers are with --roi-format",
    )  # fmt: skip


def find_wholly_outside(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
    """R05: RoIs that do not touch the image that their map covers."""
    rois = _rois(inputs)
    _, wholly = _outside(inputs)
    rows = np.flatnonzero(wholly)
    if len(rows) <= limits.max_outside * len(rois):
        return
    yield _draft(
        rois, rows,
        f"RoIs lie wholly outside the {_covered(inputs, rows[0])} that the map covers",
        "is --spatial-scale right? Outside the map RoI Align reads zeros or the border, RoI Pool "
        "nothing",
    )  # fmt: skip


def find_partly_outside(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
    """R06: RoIs that reach past the image by more than their own precision."""
    rois = _rois(inputs)
    partly, _ = _outside(inputs)
    rows = np.flatnonzero(partly)
    if len(rows) <= limits.max_outside * len(rois):
        return
    corners, extent = rois.corners[rows], inputs.extent_px[rows]
    reach = np.maximum(-corners, corners - np.tile(extent, 2)).max()
    yield _draft(
        rois, rows,
        f"RoIs reach past the {_covered(inputs, rows[0])} that the map covers, by up to "
        f"{reach:.4g} px",
        "clip the RoIs to the image, or tolerate a share of them with --max-outside",
    )  # fmt: skip


def find_small(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
    """R12: RoIs below one cell on a side, on the map that they are on."""
    rois = _rois(inputs)
    side = inputs.cells[:, 2:] - inputs.cells[:, :2]
    small = inputs.usable & ~is_crossed(rois.corners) & np.any(side < 1, axis=1)
    rows = np.flatnonzero(small)
    if len(rows) <= limits.max_small * len(rois):
        return
    width, height = side[rows[np.argmin(side[rows].min(axis=1))]]
    yield _draft(
        rois, rows,
        f"RoIs are below one cell on a side, the smallest {width:.3g} x {height:.3g} cells "
        "(width x height)",
        "use a finer map or --levels; RoI Pool sees one or two cells of them",
    )  # fmt: skip


def find_lost_coordinates(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
    """R13: RoIs whose dtype can have lost more than a quarter of a pixel."""
    rois = _rois(inputs)
    error = np.where(inputs.usable[:, None], rois.error_px, 0.0).max(axis=1, initial=0.0)
    rows = np.flatnonzero(error > limits.max_coordinate_error)
    if len(rows) == 0:
        return
    yield _draft(
        rois, rows,
        f"stored as {rois.dtype_name}, coordinates can be off by up to {error.max():.3g} px",
        "save RoIs as float32; what the dtype has lost does not come back",
    )  # fmt: skip


def find_huge_grid(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
    """R16: RoIs whose sampling grid, mostly an adaptive one, takes more memory than is allowed."""
    rois = _rois(inputs)
    assert inputs.pyramid is not None
    needed = np.zeros(len(rois))
    for index, level in enumerate(inputs.pyramid.levels):
        here = np.flatnonzero((inputs.map_of_roi == index) & inputs.usable)
        spec = replace(inputs.spec, spatial_scale=level.spatial_scale)
        dtype = inputs.pyramid.compute_dtype
        needed[here] = spec.sampling(rois.corners[here], level.shape[1], dtype).size
    rows = np.flatnonzero(needed > MAX_SAMPLES_BYTES)
    if len(rows) == 0:
        return
    kind = "sampling" if inputs.spec.sampling_ratio else "adaptive sampling"
    yield _draft(
        rois, rows,
        f"{kind} takes {needed.max() / 2**20:,.0f} MiB for one RoI, at most "
        f"{MAX_SAMPLES_BYTES >> 20} MiB are run",
        "give --sampling-ratio 2 or a smaller output size, or check coordinates and scale",
    )  # fmt: skip


def find_uneven_images(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
    """R17: images without RoIs, and images with very many of them."""
    rois = _rois(inputs)
    images = images_of(inputs)
    known = is_image_number(rois.batch, images)
    counts = np.bincount(rois.batch[known].astype(np.int64), minlength=int(images))
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        yield Draft(
            len(empty), empty.tolist(), "images without a RoI",
            "nothing to do if that is meant", "images", rois.name,
        )  # fmt: skip
    fewest = counts[counts > 0].min(initial=len(rois) + 1)
    if len(counts) and counts.max() > max(limits.max_imbalance * fewest, FEW_ROIS):
        full = np.flatnonzero(counts > limits.max_imbalance * fewest)
        yield Draft(
            len(full), full.tolist(),
            f"images with far more RoIs than others: from {fewest} to {counts.max()} an image",
            "nothing to do if that is meant; memory follows the fullest image", "images", rois.name,
        )  # fmt: skip


def find_duplicates(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
    """R18: RoIs that repeat an earlier one, image and coordinates."""
    rois = _rois(inputs)
    columns = np.column_stack([rois.batch, rois.numbers])
    # The sort is stable, so of equal rows the first stays and the later ones are repeats.
    order = np.lexsort(columns.T)
    ordered = columns[order]
    repeats = order[1:][np.all(ordered[1:] == ordered[:-1], axis=1)]
    if len(repeats) <= limits.max_duplicates * len(rois):
        return
    yield _draft(
        rois, np.sort(repeats), "RoIs repeat an earlier one exactly",
        "drop them, or tolerate a share of them with --max-duplicates",
    )  # fmt: skip


def images_of(inputs: CheckedInputs) -> float:
    """How many images there are; infinite where the maps are not known."""
    return np.inf if inputs.pyramid is None else inputs.pyramid.images


def is_image_number(column: FloatArray, images: float) -> Array:
    """(K,) whether a number is whole, not negative, and below ``images``."""
    with np.errstate(invalid="ignore"):
        whole = np.isfinite(column) & (column == np.floor(column))
        found: Array = whole & (column >= 0) & (column < images)
    return found


def is_crossed(corners: FloatArray) -> Array:
    """(K,) whether x2 < x1 or y2 < y1."""
    with np.errstate(invalid="ignore"):
        found: Array = np.any(corners[:, 2:] < corners[:, :2], axis=1)
    return found


def _rois(inputs: CheckedInputs) -> RoiTable:
    assert inputs.rois is not None
    return inputs.rois


def _draft(rois: RoiTable, rows: Array, message: str, advice: str) -> Draft:
    return Draft(len(rows), rows.tolist(), message, advice, "RoIs", rois.name)


def _outside(inputs: CheckedInputs) -> tuple[Array, Array]:
    """Masks of RoIs partly and wholly outside; an edge may be off by one step of its dtype."""
    assert inputs.map_cells is not None
    assert inputs.scale is not None
    rois = _rois(inputs)
    slack = np.where(inputs.usable, 2 * rois.error_px.max(axis=1, initial=0.0), 0.0)
    partly, wholly = find_outside(inputs.cells, inputs.map_cells, (slack * inputs.scale)[:, None])
    return partly & inputs.usable, wholly & inputs.usable


def _covered(inputs: CheckedInputs, row: int) -> str:
    width, height = inputs.extent_px[row]
    return f"{width:g} x {height:g} px (width x height)"
