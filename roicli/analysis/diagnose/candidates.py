"""The candidates of a search: conventions, and what may have gone wrong with the RoIs on the way.

The search goes by stages. ``first_candidates`` differ on ordinary RoIs, inside the map and of some
size; ``variants`` of one of them differ on the others only: at the border, below a minimum extent,
and where a bin has nothing to reduce.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import Literal, NamedTuple

import numpy as np

from roicli.core.record import frozen
from roicli.core.types import FloatArray
from roicli.operators.convention import (
    ALIGN,
    AVERAGE_POOL,
    BOXES,
    CAFFE,
    CROP,
    CROP_GRIDS,
    DEFORM_POOL,
    EDGES,
    HALF_EVEN,
    HALF_PIXEL,
    HALF_UP,
    LEGACY,
    POOL,
    PRECISE_POOL,
    PS_POOL,
    R_FCN,
    REAL,
    ROUND_SIZE,
    BorderRule,
    Channels,
    Convention,
    Cut,
    Empty,
    Placement,
    Reduction,
)
from roicli.operators.phrases import coordinates_word, describe, differences, operator_word
from roicli.operators.presets import command_of
from roicli.operators.rounding import BOX_RULES
from roicli.storage.array import narrow_float

Pair = tuple[float, float]


@frozen
class Oddity:
    """One thing that went wrong with the RoIs or their scale on the way.

    ``stretch`` and ``offset_px`` (x, y) are what the RoIs were multiplied by, and what was added.
    """

    name: str
    words: str
    scale_factor: float = 1.0
    swapped: bool = False
    roi_dtype: Literal["float16", "bfloat16"] | None = None
    stretch: Pair = (1.0, 1.0)
    offset_px: Pair = (0.0, 0.0)

    def apply(self, corners: FloatArray) -> FloatArray:
        """RoIs (K, 4) in image pixels as they arrived; not finite where the dtype cannot hold."""
        moved = corners[:, [1, 0, 3, 2]] if self.swapped else corners
        if self.stretch != (1.0, 1.0) or self.offset_px != (0.0, 0.0):
            wide = moved * np.array(self.stretch * 2) + np.array(self.offset_px * 2)
            moved = wide.astype(corners.dtype)
        if self.roi_dtype == "float16":
            with np.errstate(over="ignore"):
                return moved.astype(np.float16).astype(corners.dtype)
        if self.roi_dtype == "bfloat16":
            # Once, from single precision, as a framework that holds them so would.
            return moved.astype(np.float32).astype(narrow_float("bfloat16")).astype(corners.dtype)
        return moved


NO_ODDITY = Oddity("none", "")
ODDITIES = (
    NO_ODDITY,
    Oddity("scale-doubled", "scale twice as large", scale_factor=2.0),
    Oddity("scale-halved", "scale half as large", scale_factor=0.5),
    Oddity("swapped", "x and y swapped", swapped=True),
    Oddity("float16", "RoIs through float16", roi_dtype="float16"),
    Oddity("bfloat16", "RoIs through bfloat16", roi_dtype="bfloat16"),
)
NARROWED = tuple(oddity for oddity in ODDITIES if oddity.roi_dtype is not None)
# Pixels added to the start and to the end of a box: plain, half a pixel on or back, the end
# inclusive. OpenVINO's half_pixel is half-pixel with the first, and no oddity.
SHIFTS: tuple[tuple[str, Pair], ...] = (
    ("none", (0.0, 0.0)),
    ("shifted-plus", (0.5, 0.5)),
    ("shifted-minus", (-0.5, -0.5)),
    ("inclusive", (0.0, 1.0)),
)


@frozen
class Candidate:
    """A convention, and an oddity of the RoIs that it was given."""

    convention: Convention
    oddity: Oddity = NO_ODDITY

    @property
    def operator(self) -> str:
        """Which operator."""
        return operator_word(self.convention)

    @property
    def oddity_name(self) -> str:
        """Its oddity; also one that is a placement of its own, as pixels added."""
        box = self.convention.box
        if self.oddity != NO_ODDITY or coordinates_word(box) == "openvino-half-pixel":
            return self.oddity.name
        if box.pixel_rounding or box in PLACED or box.normalization != "scale":
            return "none"
        return {pair: name for name, pair in SHIFTS}.get((box.start_px, box.end_px), "none")

    @property
    def name(self) -> str:
        """The candidate in words."""
        return ", ".join(filter(None, [describe(self.convention), self.oddity.words]))

    @property
    def command(self) -> str | None:
        """What of ``roicli`` gives the same numbers, where something does."""
        return command_of(self.convention) if self.oddity == NO_ODDITY else None

    @property
    def parameters(self) -> dict[str, object]:
        """The parameters in which it differs from its operator's plain point."""
        return differences(self.convention, plain_point(self.convention))

    @property
    def strangeness(self) -> tuple[int, int]:
        """How many things about it are out of the ordinary; of the usual operators first."""
        usual = {"sampling_ratio", "shift_cells"}
        if self.convention.box.minimum == LEGACY.minimum:
            usual.add("minimum")
        if self.convention.reduction in ("mean", "max"):
            usual.add("reduction")
        changed = len(self.parameters.keys() - usual) + (self.oddity != NO_ODDITY)
        return changed, 0 if self.operator in ("align", "pool") else 1


# Boxes whose pixels added are the rule itself.
PLACED = (BOXES["mmcv"],)
PLAIN_POINTS = {
    "align": ALIGN,
    "pool": POOL,
    "average-pool": AVERAGE_POOL,
    "precise-pool": PRECISE_POOL,
    "crop-and-resize": CROP,
    "deform-pool": DEFORM_POOL,
    "ps-pool": PS_POOL,
    "ps-align": ALIGN,
    "rotated-align": ALIGN,
}


def plain_point(convention: Convention) -> Convention:
    """The plain point of its operator."""
    return PLAIN_POINTS[operator_word(convention)]


# The first stage ------------------------------------------------------------------------------

# How each kind of sampling may be reduced and how densely it may sample; nobody takes ONNX's or
# OpenVINO's maximum at thirds, and at ratio 1 thirds are the centre too.
RATIOS = (2, 0, 1, 3, 4)
# More than anybody's default.
DENSER = (5, 6, 7, 8)
MAXIMA: tuple[Reduction, ...] = ("mean", "max", "max-weighted-corners", "max-floored")
BOTH: tuple[Reduction, ...] = ("mean", "max")


def _aligns(box: Placement) -> Iterator[Convention]:
    for ratio, reduction in product(RATIOS, MAXIMA):
        yield Convention(box, sampling_ratio=ratio, reduction=reduction)
    for ratio, reduction in product((2, 0, 3, 4), BOTH):
        yield Convention(box, grid="thirds", sampling_ratio=ratio, reduction=reduction)


def _pools() -> Iterator[Convention]:
    for word, rule in BOX_RULES.items():
        for partition in rule.partitions:
            cut: Cut = "hull" if word == "mmcv" else partition
            yield Convention(BOXES[word], cut=cut, reduction="cell-max")


def _other_pools() -> Iterator[Convention]:
    even = HALF_EVEN, replace(HALF_EVEN, inclusive=True)
    yield from (replace(POOL, box=box) for box in (*even, HALF_UP, ROUND_SIZE))
    yield replace(POOL, box=ROUND_SIZE, cut="disjoint")
    yield replace(POOL, cut="accumulated")
    yield replace(POOL, cut="hull")
    yield replace(AVERAGE_POOL, cut="accumulated")
    for box in (*even, CAFFE, BOXES["round"], BOXES["floor"], BOXES["hull"]):
        yield replace(AVERAGE_POOL, box=box)
    for box in (R_FCN, replace(REAL, minimum=0.1), BOXES["mmcv"]):
        yield Convention(box, cut="hull", reduction="cell-mean")
    yield replace(AVERAGE_POOL, cut="disjoint")
    yield Convention(R_FCN, cut="hull", reduction="cell-max")


def _crops() -> Iterator[Convention]:
    for normalization, end in (
        ("image", 0.0), ("image-less-1", -1.0), ("image-less-1", 0.0), ("scale", 0.0)
    ):  # fmt: skip
        crop = CROP.placed(normalization=normalization, end_px=end)
        yield crop
        yield replace(crop, interpolation="nearest")
        yield replace(crop, sampling_ratio=2, reduction="max")
        yield replace(crop, sampling_ratio=2, reduction="mean")
    yield from (replace(CROP, grid=grid) for grid in CROP_GRIDS[1:])


def _rarer() -> Iterator[Convention]:
    for reduction in BOTH:
        yield replace(EDGES, reduction=reduction)
    for ratio in (4, 2, 3, 1):
        yield replace(DEFORM_POOL, sampling_ratio=ratio, channels="all")
    for box in (REAL, HALF_PIXEL):
        yield replace(PRECISE_POOL, box=box)
    yield Convention(BOXES["mmcv"])


def _turned(ratios: Sequence[int]) -> Iterator[Convention]:
    boxes = HALF_PIXEL, replace(LEGACY, about="centre")
    for box, turn in product(boxes, ("counter-clockwise", "clockwise")):
        for ratio, reduction in product(ratios, BOTH):
            placed = Convention(box, sampling_ratio=ratio, reduction=reduction).placed(turn=turn)
            yield placed


def _plain_conventions() -> Iterator[Convention]:
    for box in (HALF_PIXEL, LEGACY, replace(HALF_PIXEL, start_px=0.5, end_px=0.5)):
        yield from _aligns(box)
    yield from _pools()


class Wanted(NamedTuple):
    """What a result's shape and the options say of the candidates: how its bins read channels, and
    whether the RoIs are turned.
    """

    channels: tuple[Channels, ...] = ("all",)
    group_size: int = 0
    turned: bool = False

    def adapt(self, convention: Convention) -> Convention:
        """A convention for bins that read channels as the result's do."""
        return replace(convention, channels=self.channels[0], group_size=self.group_size)


def _shifted(conventions: Sequence[Convention]) -> Iterator[Convention]:
    """The same of boxes that pixels are added to."""
    for (_, (start, end)), convention in product(SHIFTS[1:], conventions):
        if not convention.box.start_px and not convention.box.end_px:
            yield convention.placed(start_px=start, end_px=end)


@lru_cache(maxsize=4)
def first_candidates(wanted: Wanted) -> tuple[Candidate, ...]:
    """Every candidate of the first stage, the plainer first."""
    if wanted.turned:
        return tuple(Candidate(convention) for convention in _turned(RATIOS))
    plain = tuple(_plain_conventions())
    conventions = (
        *plain, *_shifted(plain), *_other_pools(), *_crops(), *_rarer(),
    )  # fmt: skip
    if wanted.channels != ("all",):
        return _of_channels(conventions, wanted)
    found = [Candidate(convention) for convention in conventions]
    found += [Candidate(c, oddity) for oddity in ODDITIES[1:] for c in (*plain, AVERAGE_POOL)]
    found += [Candidate(c, oddity) for oddity in ODDITIES[3:4] for c in _crops()]
    # What two ways lead to stands where the first does.
    return tuple(dict.fromkeys(found))


@lru_cache(maxsize=4)
def dense_candidates(wanted: Wanted) -> tuple[Candidate, ...]:
    """What is tried besides where nothing of the first stage is near: more points a bin."""
    if wanted.turned:
        return tuple(Candidate(convention) for convention in _turned(DENSER))
    plain = [
        Convention(box, sampling_ratio=ratio, reduction=reduction)
        for box, ratio, reduction in product((HALF_PIXEL, LEGACY), DENSER, MAXIMA)
    ]
    return _of_channels((*plain, *_shifted(plain)), wanted)


def _of_channels(conventions: Iterable[Convention], wanted: Wanted) -> tuple[Candidate, ...]:
    """Conventions for bins that read channels as the result's do; the libraries' position-sensitive
    operators have no oddity that was seen.
    """
    once = dict.fromkeys(conventions)
    return tuple(
        Candidate(replace(convention, channels=channels, group_size=wanted.group_size))
        for channels in wanted.channels
        for convention in once
    )


def stretched_candidates(oddity: Oddity, wanted: Wanted) -> list[Candidate]:
    """Conventions of RoIs that were stretched and moved."""
    conventions = (*_plain_conventions(), *_other_pools(), *_crops(), *_rarer())
    return [replace(one, oddity=oddity) for one in _of_channels(conventions, wanted)]


# The second stage -----------------------------------------------------------------------------

EMPTIES: tuple[Empty, ...] = ("0", "nan", "-inf", "-flt-max", "-10000")
# Minimum extents in cells, kept about the corner or the centre; borders with their reach.
MINIMA: tuple[tuple[float | None, Literal["corner", "centre"]], ...] = (
    (None, "corner"), (0.0, "corner"), (0.1, "corner"), (1.0, "corner"), (1.0, "centre")
)  # fmt: skip
BORDERS: tuple[tuple[BorderRule, float], ...] = (
    ("clamp", 1.0), ("zero", 1.0), ("skip", 1.0), ("skip", 0.5), ("extrapolate", 1.0),
    ("value", 0.0),
)  # fmt: skip


def variants(candidate: Candidate, fills: Sequence[float] = ()) -> Iterator[Candidate]:
    """What gives the same numbers on ordinary RoIs, and others elsewhere; ``fills`` are what points
    off the map may count, besides 0.
    """
    convention = candidate.convention
    for form in _forms(convention, fills):
        for empty in EMPTIES:
            yield replace(candidate, convention=replace(form, empty=empty))
        if _may_be_empty(form):
            yield replace(candidate, convention=replace(form, empty="point"))
    yield from narrowed(candidate)


def _may_be_empty(convention: Convention) -> bool:
    """Whether a box without size has no points."""
    adaptive = convention.sampling_ratio == 0 and convention.cut == "equal"
    return adaptive and not (convention.reads_cells or convention.box.minimum)


def narrowed(candidate: Candidate) -> Iterator[Candidate]:
    """The same of RoIs through a narrow type; coordinates that it holds are as they were."""
    if candidate.oddity == NO_ODDITY:
        for oddity in NARROWED:
            yield replace(candidate, oddity=oddity)


def _forms(convention: Convention, fills: Sequence[float]) -> Iterator[Convention]:
    if convention.reads_cells:
        whole = convention.box.rounding != "none"
        for minimum, last_cell in product([1.0] if whole else [0.1, 1.0, None], (True, False)):
            yield replace(convention.placed(minimum=minimum), last_cell=last_cell)
    elif convention.reduction == "integral":
        yield convention
        yield replace(convention, border="zero")
    else:
        yield from _point_forms(convention, fills)


def _point_forms(convention: Convention, fills: Sequence[float]) -> Iterator[Convention]:
    box = convention.box
    fixed = convention.grid in (*CROP_GRIDS, "corners")
    for minimum, about in [(box.minimum, box.about)] if fixed else MINIMA:
        placed = convention.placed(minimum=minimum, about=about)
        for border, reach in BORDERS:
            form = replace(placed, border=border, reach=reach)
            # MegEngine's, who alone pads with zeros.
            is_even = border == "zero" and convention.grid == "quarters"
            yield replace(form, grid="even") if is_even else form
        for fill, reach in product(fills, (0.0, 1.0)):
            yield replace(placed, border="value", reach=reach, border_value=fill)
        if convention.grid == "quarters" and box.turn == "none":
            yield replace(placed, cut="clipped")
        if convention.reduction == "max-weighted-corners":
            yield replace(placed, reduction="max-split-corners")
