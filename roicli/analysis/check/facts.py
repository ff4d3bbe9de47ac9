"""Rules that count what is there and that no operator refuses, but R01 and R16.

Nothing is guessed. Each yields at most a finding a cause.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from roicli.analysis.check.inputs import CheckedInputs
from roicli.analysis.check.records import Limits
from roicli.core.types import Array, FloatArray
from roicli.pipeline.draft import Draft
from roicli.pipeline.readings import find_resized
from roicli.pipeline.roi_table import Block, PlacedRois, is_crossed, is_image_number
from roicli.pipeline.rules import covered
from roicli.pipeline.validation import (
    MAX_SAMPLES_BYTES,
    describe_huge_grid,
)

# Fewer RoIs than this on the fullest image say nothing about how they are spread.
FEW_ROIS = 20


def find_wrong_shape(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
    """R01: shapes that are not (N, C, H, W), or (C, H, W), and (K, 5)."""
    yield from inputs.shape_findings


def find_partly_outside(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
    """R06: RoIs that reach past the image by more than their own precision."""
    rois = _rois(inputs)
    rows = rois.rows(lambda block: block.outside[0])
    if len(rows) <= limits.max_outside * len(rois):
        return
    reach = 0.0
    for block in rois.blocks():
        past = np.maximum(-block.corners, block.corners - np.tile(block.extent_px, 2))
        reach = max(reach, past[block.outside[0]].max(initial=0.0))
    resized = find_resized(rois)
    yield _draft(
        rois, rows,
        f"RoIs reach past the {covered(rois, rows[0])} that the map covers, by up to "
        f"{reach:.4g} px",
        "clip the RoIs to the image, or tolerate a share of them with --max-outside"
        + (f"; {resized}" if resized else ""),
    )  # fmt: skip


def find_small(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
    """R12: RoIs below one cell on a side, on the map that they are on."""
    rois = _rois(inputs)
    rows = rois.rows(_is_small)
    if len(rows) <= limits.max_small * len(rois):
        return
    sides = [_sides(block)[_is_small(block)] for block in rois.blocks()]
    small = np.concatenate(sides)
    width, height = small[np.argmin(small.min(axis=1))]
    yield _draft(
        rois, rows,
        f"RoIs are below one cell on a side, the smallest {height:.3g} x {width:.3g} cells "
        "(height x width)",
        "use a finer map or --levels; RoI Pool sees one or two cells of them",
    )  # fmt: skip


def _sides(block: Block) -> FloatArray:
    return block.cells[:, 2:] - block.cells[:, :2]


def _is_small(block: Block) -> Array:
    found: Array = block.usable & ~is_crossed(block.corners) & np.any(_sides(block) < 1, axis=1)
    return found


def find_huge_grid(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
    """R16: RoIs whose sampling grid, mostly an adaptive one, takes more memory than is allowed."""
    rois = _rois(inputs)
    assert inputs.pyramid is not None
    needed, counts = np.zeros(len(rois)), np.zeros((len(rois), 2), np.int64)
    for index, level in enumerate(inputs.pyramid.levels):
        here = np.flatnonzero((rois.map_of_roi == index) & rois.is_usable)
        spec = replace(inputs.spec, spatial_scale=level.spatial_scale)
        dtype = inputs.pyramid.compute_dtype
        needed[here], counts[here], kind = spec.sampling(
            rois.table.corners[here], level.shape[1], dtype
        )
    rows = np.flatnonzero(needed > MAX_SAMPLES_BYTES)
    if len(rows):
        worst = int(np.argmax(needed))
        number = rois.table.number(worst)
        words = describe_huge_grid(number, needed[worst], counts[worst], kind)
        yield _draft(rois, rows, *words)


def find_uneven_images(inputs: CheckedInputs, limits: Limits) -> Iterator[Draft]:
    """R17: images without RoIs, and images with very many of them."""
    rois = _rois(inputs).table
    assert inputs.pyramid is not None
    images = inputs.pyramid.images
    known = is_image_number(rois.batch, images)
    counts = np.bincount(rois.batch[known].astype(np.int64), minlength=images)
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
    columns = np.column_stack([rois.table.batch, rois.table.numbers])
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


def _rois(inputs: CheckedInputs) -> PlacedRois:
    assert inputs.rois is not None
    return inputs.rois


def _draft(rois: PlacedRois, rows: Array, message: str, advice: str) -> Draft:
    return Draft(len(rows), rows, message, advice, "RoIs", rois.table.name)
