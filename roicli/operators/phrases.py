"""A convention in words, and as the command of roicli that computes it. Needs no NumPy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, assert_never

from roicli.core.vocabulary import Partition
from roicli.operators.convention import (
    ALIGN,
    BOXES,
    CROP,
    CROP_GRIDS,
    CROPS,
    DEFORM_POOL,
    HALF_PIXEL,
    HALF_UP,
    LEGACY,
    PS_ALIGN,
    PS_RULES,
    R_FCN,
    ROTATED_ALIGN,
    ROUND_SIZE,
    BorderRule,
    Convention,
    Cut,
    Empty,
    Grid,
    Normalization,
    Placement,
    Reduction,
)

REDUCTION_WORDS: dict[Reduction, str] = {
    "mean": "average",
    "max": "maximum of the samples",
    "max-weighted-corners": "maximum of the weighted corners (ONNX's mode max)",
    "max-split-corners": "maximum of the weighted corners, split past the last cell (MAX's max)",
    "max-floored": "maximum of the samples and 0 (OpenVINO's max)",
    "cell-mean": "average of the cells",
    "cell-max": "maximum of the cells",
    "integral": "exact mean",
}
BORDER_WORDS: dict[BorderRule, str] = {
    "clamp": "clamped at the border",
    "zero": "zero padding at the border",
    "skip": "points off the map are skipped",
    "extrapolate": "extrapolated before the map, its edge repeated after it",
    "value": "0 off the map, without a margin",
}
NORMALIZATION_WORDS: dict[Normalization, str] = {
    "scale": "corners by the spatial scale",
    "image": "corners over the image's size",
    "image-less-1": "corners over the image's size less 1",
}
# Of boxes without a word of --quantization.
BOX_WORDS: dict[Placement, str] = {
    HALF_UP: "edges rounded half up",
    ROUND_SIZE: "start and size rounded",
}
GRID_WORDS: dict[Grid, str] = {
    "thirds": "sampled at thirds",
    "edges": "sampled at the edges of bins",
}
CROP_GRID_WORDS: dict[Grid, str] = {
    "upsample": "spaced from the first cell (Core ML's DEFAULT)",
    "offset-corners": "in the middle of bins (Core ML's OFFSET_CORNERS)",
    "unalign-corners": "in the middle of bins of cells (Core ML's UNALIGN_CORNERS)",
}
EMPTY_WORDS: dict[Empty, str] = {
    "0": "0 for an empty bin",
    "nan": "NaN for an empty bin",
    "-inf": "-inf for an empty bin",
    "-flt-max": "-FLT_MAX for an empty bin",
    "-10000": "-10000 for an empty bin",
    "point": "a point at least in a bin",
}
PARTITIONS: dict[Cut, Partition] = {
    "overlap": "overlap",
    "disjoint": "disjoint",
    "floor-size": "floor-size",
}


def operator_word(convention: Convention) -> str:
    """The operator whose region of the space it lies in, as a command would be called."""
    sensitive = convention.channels != "all"
    match convention.reduction:
        case "integral":
            return "precise-pool"
        case "cell-max":
            return "pool"
        case "cell-mean":
            return "ps-pool" if sensitive else "average-pool"
        case _:
            if convention.box.turn != "none":
                return "rotated-align"
            if convention.grid in CROP_GRIDS:
                return "crop-and-resize"
            plain = "ps-align" if sensitive else "align"
            return "deform-pool" if convention.grid == "corners" else plain


TITLES = {
    "align": "RoI Align",
    "pool": "RoI Pool",
    "precise-pool": "Precise RoI Pooling",
    "average-pool": "Average RoI Pool",
    "crop-and-resize": "crop_and_resize",
    "ps-pool": "Position-sensitive RoI Pool",
    "ps-align": "Position-sensitive RoI Align",
    "rotated-align": "Rotated RoI Align",
    "deform-pool": "Deformable RoI Pool without offsets",
}


def describe(convention: Convention) -> str:
    """The convention in words: the operator, then what it does, the usual left out."""
    operator = operator_word(convention)
    return ", ".join([TITLES[operator], *_parts(convention, operator), *_ends(convention)])


def _parts(convention: Convention, operator: str) -> list[str]:
    match operator:
        case "pool" | "average-pool" | "ps-pool":
            return [*_cell_box(convention.box), *_cuts(convention)]
        case "crop-and-resize":
            return _crop(convention)
        case "precise-pool":
            shift = ["half-pixel"] if convention.box.shift_cells else []
            return [*shift, *_box_differences(convention.box, None)]
        case "deform-pool":
            box = convention.box
            return [
                *(["corners rounded before scaling"] if box.pixel_rounding else []),
                f"{convention.sampling_ratio} points an axis",
            ]
        case _:
            return [
                REDUCTION_WORDS[convention.reduction],
                *_coordinates(convention.box),
                _ratio(convention),
                *([GRID_WORDS[convention.grid]] if convention.grid in GRID_WORDS else []),
                *(["bins clipped to the map (ncnn)"] if convention.cut == "clipped" else []),
            ]


def _ratio(convention: Convention) -> str:
    ratio = convention.sampling_ratio
    return f"sampling ratio {ratio}" if ratio else "adaptive"


def coordinates_word(box: Placement) -> str:
    """Half-pixel or legacy, or OpenVINO's half_pixel, which is half an image pixel on."""
    if not box.shift_cells:
        return "legacy"
    return "openvino-half-pixel" if box.start_px == box.end_px == 0.5 else "half-pixel"


def _coordinates(box: Placement) -> list[str]:
    word = coordinates_word(box)
    if word == "openvino-half-pixel":
        return ["OpenVINO's half_pixel", *_minimum(box, None)]
    plain = HALF_PIXEL if word == "half-pixel" else LEGACY
    return [word, *_box_differences(box, plain.minimum)]


def _box_differences(box: Placement, minimum: float | None) -> list[str]:
    parts = ["corners rounded before scaling"] if box.pixel_rounding else []
    if box.inclusive and box.rounding == "none":
        parts.append("a cell longer")
    if box.start_px == box.end_px != 0:
        parts.append(f"coordinates {box.start_px:+g} px")
    elif box.end_px:
        parts.append(f"x2 and y2 {box.end_px:+g} px")
    return [*parts, *_minimum(box, minimum)]


def _minimum(box: Placement, usual: float | None) -> list[str]:
    parts = []
    if box.minimum != usual:
        if box.minimum is None:
            parts.append("no minimum extent")
        else:
            parts.append(f"extent at least {box.minimum:g} cell{'s' * (box.minimum == 0)}")
    return [*parts, *(["kept about the centre"] if box.about == "centre" else [])]


def _cell_box(box: Placement) -> list[str]:
    for word, rule in BOXES.items():
        if box == rule:
            return [f"quantization {word}"]
    still = replace(box, start_px=0.0, end_px=0.0)
    for word, rule in BOXES.items():
        if still == rule:
            return [f"quantization {word}", *_box_differences(box, box.minimum)]
    if box in BOX_WORDS:
        return [BOX_WORDS[box]]
    if box.rounding == "half-even":
        end = "inclusive" if box.inclusive else "exclusive"
        return [f"edges rounded half to even, the end cell {end}"]
    if box.pixel_rounding:
        return ["corners rounded before scaling (R-FCN)", *_minimum(box, R_FCN.minimum)]
    return ["real edges" if box.rounding == "none" else f"edges by {box.rounding}",
            *_box_differences(box, None)]  # fmt: skip


def _cuts(convention: Convention) -> list[str]:
    match convention.cut:
        case "overlap" | "disjoint" | "floor-size":
            parts = [f"partition {convention.cut}"]
        case "accumulated":
            parts = ["partition overlap, edges added up (MNN)"]
        case "hull":
            parts = ["bins that touch a cell read it"]
            if convention.box == BOXES["mmcv"]:
                parts = ["partition overlap"]
            elif convention.box.rounding != "none":
                parts = ["partition overlap, edges rounded on the map (NNAPI)"]
        case "equal" | "clipped":
            parts = []
        case _:
            assert_never(convention.cut)
    return parts if convention.last_cell else [*parts, "the last row and column never read"]


def _crop(convention: Convention) -> list[str]:
    parts = [NORMALIZATION_WORDS[convention.box.normalization]]
    parts += _box_differences(convention.box, None)
    if convention.grid in CROP_GRID_WORDS:
        parts.append(CROP_GRID_WORDS[convention.grid])
    if convention.sampling_ratio > 1:
        word = "maximum" if convention.reduction == "max" else "mean"
        n = convention.sampling_ratio
        parts.append(f"{n}P points and the {word} of {n}x{n}")
    return [*parts, *(["nearest cell"] if convention.interpolation == "nearest" else [])]


def _ends(convention: Convention) -> list[str]:
    """What it does at the map's border, with channels, and where there is nothing."""
    parts = []
    plain = CROP if convention.grid in CROP_GRIDS else ALIGN
    if convention.grid == "corners":
        plain = DEFORM_POOL
    if not convention.reads_cells:
        if convention.border != plain.border:
            parts.append(BORDER_WORDS[convention.border])
        no_margin = convention.border == "value" and not convention.reach
        reaches = convention.border in ("clamp", "skip", "value") and not no_margin
        if convention.reach != plain.reach and reaches:
            parts.append(f"up to {convention.reach:g} cells past the map")
        if convention.border_value:
            parts.append(f"{convention.border_value:g} off the map")
    match convention.channels:
        case "all":
            pass
        case "class-major" | "position-major":
            size = convention.group_size
            groups = f"{size}x{size} groups" if size else "a group a bin"
            parts.append(f"channels {convention.channels}, {groups}")
        case _:
            assert_never(convention.channels)
    return [*parts, *([EMPTY_WORDS[convention.empty]] if convention.empty != "0" else [])]


def differences(convention: Convention, plain: Convention) -> dict[str, Any]:
    """The parameters by name in which it differs from another one."""
    usual = plain.parameters()
    return {name: value for name, value in convention.parameters().items() if value != usual[name]}


# As roicli's own command ----------------------------------------------------------------------


def as_options(convention: Convention) -> tuple[str, dict[str, Any]] | None:
    """The operator and its options that compute it, where roicli has them; else None.

    Of the fill of an empty bin roicli has 0 alone; only boxes without size meet another.
    """
    plain = _with_plain_ends(convention)
    if plain.box in (HALF_PIXEL, LEGACY):
        mode = {"mean": "avg", "max": "max"}.get(plain.reduction)
        options = {
            "aligned": plain.box == HALF_PIXEL,
            "sampling_ratio": plain.sampling_ratio,
            "mode": mode,
            "sampling_grid": plain.grid,
        }
        same = Convention(
            plain.box, "equal", plain.grid, plain.sampling_ratio, reduction=plain.reduction
        )
        if mode and plain == same and plain.grid in ("quarters", "thirds"):
            return "align", options
    for quantization, box in BOXES.items():
        cut: Cut = "hull" if quantization == "mmcv" else plain.cut
        same = Convention(box, cut, reduction="cell-max")
        if cut not in PARTITIONS and quantization != "mmcv":
            continue
        options = {"quantization": quantization, "partition": PARTITIONS.get(cut, "overlap")}
        if plain == same:
            return "pool", options
        if plain == replace(same, reduction="cell-mean"):
            return "average-pool", options
    for border in ("clamp", "zero"):
        if plain == Convention(Placement(), border=border, reduction="integral"):
            return "precise-pool", {"border": border}
    if plain.box.turn != "none":
        return _as_rotated(plain)
    return _as_crop(plain) if plain.grid == "ends" else _as_position_sensitive(plain)


def _as_crop(plain: Convention) -> tuple[str, dict[str, Any]] | None:
    """``as_options`` of crop and resize."""
    points = {(1, "mean"): "one", (2, "max"): "max", (2, "mean"): "avg"}
    points_word = points.get((plain.sampling_ratio, plain.reduction))
    for word, crop in CROPS.items():
        for rule in ("value", "zeros"):
            same = replace(
                crop if rule == "value" else replace(crop, border="zero", reach=1.0),
                interpolation=plain.interpolation,
                sampling_ratio=plain.sampling_ratio,
                reduction=plain.reduction,
                border_value=plain.border_value if rule == "value" else 0.0,
            )
            if plain == same and points_word:
                return "crop-and-resize", {
                    "normalization": word,
                    "interpolation": plain.interpolation,
                    "crop_points": points_word,
                    "outside_rule": rule,
                    "extrapolation_value": plain.border_value,
                }
    return None


def _as_rotated(plain: Convention) -> tuple[str, dict[str, Any]] | None:
    """``as_options`` of rotated RoI Align; the unit of angles is no part of a convention."""
    for box in (HALF_PIXEL, replace(LEGACY, about="centre")):
        turned = replace(box, turn=plain.box.turn)
        if plain == replace(ROTATED_ALIGN, box=turned, sampling_ratio=plain.sampling_ratio):
            return "rotated-align", {
                "aligned": box == HALF_PIXEL,
                "sampling_ratio": plain.sampling_ratio,
                "angle_direction": plain.box.turn,
            }
    return None


def _as_position_sensitive(plain: Convention) -> tuple[str, dict[str, Any]] | None:
    """``as_options`` of pooling and alignment on a bin's own channels."""
    groups = plain.group_size
    for word, rule in PS_RULES.items():
        if plain == replace(rule, group_size=groups):
            return "ps-pool", {"ps_rule": word, "group_size": groups}
    if plain == replace(DEFORM_POOL, sampling_ratio=plain.sampling_ratio, group_size=groups):
        ratio = plain.sampling_ratio
        options = {"deform_rule": "r-fcn", "sampling_ratio": ratio, "group_size": groups}
        return "deform-pool", options
    for box in (HALF_PIXEL, LEGACY):
        ratio = plain.sampling_ratio
        if plain == replace(PS_ALIGN, box=box, sampling_ratio=ratio, group_size=groups):
            options = {"aligned": box == HALF_PIXEL, "sampling_ratio": ratio, "group_size": groups}
            return "ps-align", options
    return None


def _with_plain_ends(convention: Convention) -> Convention:
    ratio = ALIGN.sampling_ratio
    cells = convention.reads_cells or convention.reduction == "integral"
    return replace(
        convention, empty="0", sampling_ratio=ratio if cells else convention.sampling_ratio
    )


def command(convention: Convention) -> str | None:
    """What of ``roicli`` gives the same numbers, where something does."""
    found = as_options(convention)
    if found is None or convention.empty != "0":
        return None
    operator, options = found
    words = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif (name, value) not in (("mode", "avg"), ("sampling_grid", "quarters")):
            words.append(f"--{flag} {value}")
    return " ".join(["roicli", operator, *words])
