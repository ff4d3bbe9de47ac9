"""What a run of a model gave, as RoI nodes have it: maps, RoIs (k, 5), the node's own output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.record import frozen
from roicli.core.types import Array
from roicli.pipeline.capture.plan import SiteTensors
from roicli.pipeline.capture.sites import RoiSite
from roicli.runtime.model_run import Value


@frozen
class SiteValues:
    """``features`` (B, C, H, W), ``rois`` (k, 5) with numbers of these B maps, and ``output``
    (k, C, P_h, P_w).
    """

    features: Array
    rois: Array
    output: Array


def read_site(site: RoiSite, tensors: SiteTensors, values: Sequence[Value]) -> SiteValues | None:
    """A node's values; None where the run did not come to it. Raises InputError."""
    places = (tensors.features, tensors.rois, tensors.batch, tensors.output)
    found = [None if place is None else values[place] for place in places]
    count = max((len(one) for one in found if isinstance(one, list)), default=None)
    if count is None:
        return _join(site, *found)  # type: ignore[arg-type]
    # In a loop: a tensor an iteration, or one from outside for all.
    every = (
        _join(site, *(one[turn] if isinstance(one, list) else one for one in found))  # type: ignore[arg-type]
        for turn in range(count)
    )
    turns = [one for one in every if one is not None]
    if not turns:
        return None
    shares_map = not isinstance(found[0], list)
    rois = [turn.rois.copy() for turn in turns]
    for number, one in enumerate(rois):
        one[:, 0] += 0 if shares_map else number * len(turns[0].features)
    return SiteValues(
        turns[0].features if shares_map else _stack(site, [turn.features for turn in turns]),
        _stack(site, rois),
        _stack(site, [turn.output for turn in turns]),
    )


def _stack(site: RoiSite, parts: Sequence[Array]) -> Array:
    if len({part.shape[1:] for part in parts}) > 1:
        shapes = ", ".join(str(part.shape) for part in parts[:2])
        raise InputError(
            f"node {site.name}: iterations of its loop have shapes {shapes}, expected alike"
        )
    return np.concatenate(parts)


def _join(
    site: RoiSite, features: Array, rois: Array, batch: Array | None, output: Array
) -> SiteValues | None:
    """The node's tensors, checked: what a model gives may have any shape.

    None where an If went the other way and gave nothing, which has one axis, for them.
    """
    if features.shape == (0,) or output.shape == (0,):
        return None
    width = 5 if batch is None else 4
    fits = (
        features.ndim == 4
        and rois.ndim == 2
        and rois.shape[1] == width
        and (batch is None or batch.shape == rois.shape[:1])
        and output.ndim == 4
        and output.shape[:2] == (len(rois), features.shape[1])
    )
    if not fits:
        shapes = [None if one is None else one.shape for one in (features, rois, batch, output)]
        raise InputError(
            f"node {site.name}: map, RoIs, their images and output have shapes {shapes}, expected "
            f"(N, C, H, W), (K, {width}), (K,) and (K, C, P_h, P_w)"
        )
    if site.operator == "crop-and-resize":
        assert batch is not None
        return SiteValues(features, _as_cells(rois, batch, features.shape), output)
    kind = np.result_type(rois.dtype, np.float32)
    rows = rois if batch is None else np.column_stack([batch, rois])
    return SiteValues(features, rows.astype(kind), output)


def _as_cells(rois: Array, batch: Array, shape: tuple[int, ...]) -> Array:
    """Boxes y1, x1, y2, x2 as shares of the map as corners x1, y1, x2, y2 in cells of a scale of 1.

    In float64 the product is exact, and dividing it by the size gives the share again.
    """
    height, width = shape[2:]
    size = np.array([width, height, width, height], np.float64)
    corners = rois[:, [1, 0, 3, 2]].astype(np.float64) * size
    return np.column_stack([batch.astype(np.float64), corners])
