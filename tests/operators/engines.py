"""Results of other engines on one set of RoIs, each with the convention that it follows.

``data/engines.npz`` holds 104 results of 12 engines on 24 RoIs (ordinary, tiny, without size,
partly and wholly outside, on grid lines, at exact halves, large): two channels of each, equal ones
once. ``index`` is JSON: name, version, call, and the keys of the RoIs and of the result.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roicli.operators.convention import (
    ALIGN,
    AVERAGE_POOL,
    CROP,
    DEFORM_POOL,
    HALF_PIXEL,
    LEGACY,
    POOL,
    PS_POOL,
    REAL,
    Convention,
    Placement,
)

SCALE = 1 / 16
# Equal to no convention: ncnn's depend on the compiler; OpenVINO's rule off the map is not known.
NOT_IMITATED = ("ncnn-ROIPooling-default", "openvino-PSROIPooling-bilinear-group1-bins1")
HALF_EVEN = Placement(rounding="half-even", minimum=1.0)
ABOUT_CENTRE = replace(LEGACY, about="centre")


@dataclass(frozen=True)
class Entry:
    """One result (24, 2, P_h, P_w) with its RoIs (24, 5)."""

    name: str
    call: str
    rois: NDArray[np.float32]
    result: NDArray[np.float32]

    @property
    def convention(self) -> Convention:
        """What the engine's own source says that it computes (docs/rosetta.md)."""
        return _convention(self.name)

    @property
    def angle(self) -> float | None:
        """Degrees that its RoIs are turned by, where they are."""
        found = re.search(r"angle(\d+)", self.name)
        return float(found[1]) if found else None


@cache
def _archive() -> dict[str, NDArray[Any]]:
    with np.load(Path(__file__).parent / "data" / "engines.npz") as archive:
        return dict(archive)


def features() -> NDArray[np.float32]:
    """The maps (2, 2, 25, 38)."""
    return _archive()["features"]


@cache
def entries() -> dict[str, Entry]:
    """All results by name."""
    stored = _archive()
    rows = json.loads(stored["index"].tobytes())
    return {
        row["name"]: Entry(row["name"], row["call"], stored[row["rois"]], stored[row["result"]])
        for row in rows
    }


# The first pattern that a name matches says what it is, beside the RoI Align that the name spells.
RULES: tuple[tuple[str, Callable[[Convention], Convention]], ...] = (
    (
        "rotated.*aligned|openvino-ROIAlignRotated",
        lambda align: replace(align, box=replace(HALF_PIXEL, turn="counter-clockwise")),
    ),
    (
        "rotated|RROIAlign",
        lambda align: replace(align, box=replace(ABOUT_CENTRE, turn="counter-clockwise")),
    ),
    (
        "chainer-roi_max_align",
        lambda align: replace(align, reduction="max", border="skip", empty="-inf"),
    ),
    ("chainer-roi_average_pooling", lambda _: replace(AVERAGE_POOL, box=HALF_EVEN)),
    ("chainer-roi_max_pooling", lambda _: replace(POOL, box=HALF_EVEN, empty="-inf")),
    ("chainer-roi_pooling", lambda _: replace(POOL, box=replace(HALF_EVEN, inclusive=True))),
    (
        "megengine-roi_align",
        lambda align: replace(align.placed(minimum=0.0), border="zero", grid="even"),
    ),
    ("megengine-roi_pooling-average", lambda _: AVERAGE_POOL),
    ("mmcv-roi_align-.*max", lambda align: replace(align, empty="-10000")),
    ("openvino-ROIPooling-bilinear", lambda _: CROP.placed(normalization="image")),
    ("-PSROIPooling", lambda _: replace(PS_POOL, group_size=1)),
    ("-DeformablePSROIPooling", lambda _: replace(DEFORM_POOL, group_size=1)),
    (
        "openvino-.*half_pixel-max",
        lambda align: replace(align.placed(start_px=0.5, end_px=0.5), reduction="max-floored"),
    ),
    (
        "openvino-.*half_pixel-",
        lambda align: replace(align.placed(start_px=0.5, end_px=0.5), empty="nan"),
    ),
    ("openvino-ROIAlign.*max", lambda align: replace(align, reduction="max-floored")),
    ("openvino-ROIAlign", lambda align: replace(align, empty="nan")),
    ("ROIPooling|MaxRoiPool|roi_pooling|-roi_pool-", lambda _: POOL),
    ("ncnn-ROIAlign-v0", lambda align: replace(align, cut="clipped")),
    (
        "CropAndResize-nearest|normimg-nearest",
        lambda _: replace(CROP.placed(normalization="image"), interpolation="nearest"),
    ),
    (
        "normimg-2x",
        lambda _: replace(CROP.placed(normalization="image"), sampling_ratio=2, reduction="max"),
    ),
    ("normimg", lambda _: CROP.placed(normalization="image")),
    ("matterport", lambda _: CROP.placed(normalization="image-less-1", end_px=-1.0)),
    ("endernewton-2x", lambda _: replace(CROP, sampling_ratio=2, reduction="max")),
    ("endernewton", lambda _: CROP),
    ("onnxruntime-.*max", lambda align: replace(align, reduction="max-weighted-corners")),
    (
        "ps_roi_align",
        lambda align: replace(align, box=HALF_PIXEL, channels="class-major", empty="nan"),
    ),
    (
        "ps_roi_pool",
        lambda _: replace(
            AVERAGE_POOL,
            box=Placement(rounding="half-away", minimum=1.0),
            last_cell=False,
            channels="class-major",
        ),
    ),
    ("tvm-roi_align-aligned", lambda align: replace(align, box=REAL)),
    ("", lambda align: align),
)


def _convention(name: str) -> Convention:
    ratio = re.search(r"sr(-?\d)", name)
    half_pixel = re.search("-aligned|-half_pixel", name)
    align = replace(
        ALIGN,
        box=HALF_PIXEL if half_pixel else LEGACY,
        sampling_ratio=max(int(ratio[1]), 0) if ratio else 2,
        reduction="max" if "-max" in name else "mean",
    )
    return next(rule(align) for pattern, rule in RULES if re.search(pattern, name))
