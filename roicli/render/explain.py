"""The worked example as JSON, and as sections that terminals and Markdown print alike."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, TextIO

from roicli.analysis.explanation import (
    AlignedBin,
    Check,
    EdgeError,
    Explanation,
    PooledBin,
    Sample,
    Span,
)
from roicli.core.strict_json import write_object
from roicli.render.sections import Grid, Section, print_sections, write_markdown_sections

if TYPE_CHECKING:
    from roicli.render.documents import ExplainedBin

# More samples or cells than these tell no more; the JSON has them all.
SHOWN_SAMPLES = 16
SHOWN_CELLS = 8
MILLIONTH = Decimal("0.000001")
OPERATOR_NAMES = {"align": "RoI Align", "pool": "RoI Pool"}


def exact(value: float) -> str:
    """Up to six decimals, halves away from zero, without trailing zeros; what is tiny shorter."""
    if value == 0 or not math.isfinite(value):
        return f"{value + 0.0:g}"
    if abs(value) < 1e-4 or abs(value) >= 1e9:
        return f"{value:.6g}"
    # A float's own halves are exact: 7.1328125 is 7.132813 to people, not 7.132812.
    rounded = Decimal(value).quantize(MILLIONTH, ROUND_HALF_UP)
    return f"{rounded:f}".rstrip("0").rstrip(".")


def _numbers(*values: float) -> tuple[str, ...]:
    return tuple(exact(value) for value in values)


def describe_bin(explanation: Explanation) -> str:
    """Which bin of which RoI, in a line."""
    rows, columns = explanation.output_size
    row, column = explanation.bin_index
    return (
        f"RoI {explanation.roi} on image {explanation.batch_index}, "
        f"channel {explanation.channel}, bin {row},{column} (row,column) of {rows} x {columns}, "
        f"stride {exact(explanation.stride)}, computed in {explanation.dtype}"
    )


def build_sections(explanation: Explanation) -> list[Section]:
    """The whole example: the RoI, RoI Align, RoI Pool, the two errors, the verdict."""
    aligned, pooled = explanation.align, explanation.pool
    return [
        _roi_section(explanation),
        _align_section(aligned),
        _pool_section(pooled, explanation.bin_index),
        _error_section(explanation),
        Section("Check", tuple(describe_check(check) for check in explanation.checks)),
    ]


def _roi_section(explanation: Explanation) -> Section:
    aligned, (rows, columns) = explanation.align, explanation.output_size
    height, width = aligned.size
    before, px = aligned.box_before_step, explanation.corners_px
    name = "cells, px / stride"
    lines = [
        ("image, px", *_numbers(*px, px[2] - px[0], px[3] - px[1])),
        (name, *_numbers(*before, before[2] - before[0], before[3] - before[1])),
    ]
    if aligned.aligned:
        lines.append(("half-pixel step, - 0.5", *_numbers(*aligned.box, width, height)))
    elif (before[2] - before[0], before[3] - before[1]) != (width, height):
        lines.append(("legacy, at least 1 cell", *_numbers(*aligned.box, width, height)))
    bin_height, bin_width = aligned.bin_size
    x1, y1, x2, y2 = _numbers(*aligned.bin_before_step)
    row, column = explanation.bin_index
    return Section(
        "The RoI",
        (
            Grid(("", "x1", "y1", "x2", "y2", "width", "height"), tuple(lines)),
            f"one of {rows} x {columns} bins: {exact(bin_width)} wide, {exact(bin_height)} high",
            f"bin {row},{column}: x {x1} to {x2}, y {y1} to {y2}, in cells"
            + (" before the half-pixel step" if aligned.aligned else ""),
            f"bin {row},{column} lies on {_cells(aligned.cell_columns, aligned.cell_rows)}",
        ),
    )


def _cells(columns: Span, rows: Span) -> str:
    """Inclusive spans as words."""
    x, y = (str(a) if a == b else f"{a}-{b}" for a, b in (columns, rows))
    return f"cells x {x}, y {y}"


def _align_section(aligned: AlignedBin) -> Section:
    down, across = aligned.grid
    ratio = (
        "adaptive" if aligned.sampling_ratio == 0 else f"sampling ratio {aligned.sampling_ratio}"
    )
    model = "half-pixel" if aligned.aligned else "legacy"
    parts: list[str | Grid] = [
        f"{down} x {across} points (down x across), {ratio}, {aligned.sampling_grid}, {model}",
        _points_grid(aligned),
    ]
    for number, sample in enumerate(aligned.samples[:SHOWN_SAMPLES]):
        parts += describe_sample(number, sample)
    if len(aligned.samples) > SHOWN_SAMPLES:
        hidden = len(aligned.samples) - SHOWN_SAMPLES
        parts.append(f"{hidden} more samples with --format json")
    values = f"{len(aligned.samples)} samples" if aligned.samples else "no samples, so 0"
    parts.append(f"mean {exact(aligned.mean)}, max {exact(aligned.maximum)} of {values}")
    parts.append(f"RoI Align ({aligned.mode}) = {exact(aligned.value)}")
    return Section("RoI Align", tuple(parts))


def _points_grid(aligned: AlignedBin) -> Grid:
    step = ("x before step", "y before step") if aligned.aligned else ()
    return Grid(
        ("sample", *step, "x", "y", "value"),
        tuple(
            (
                str(number + 1),
                *(_numbers(s.x_before_step, s.y_before_step) if step else ()),
                *_numbers(s.x, s.y, s.value),
            )
            for number, s in enumerate(aligned.samples[:SHOWN_SAMPLES])
        ),
    )


def describe_sample(number: int, sample: Sample) -> list[str | Grid]:
    """One sample: its four cells, each with the area of the opposite rectangle."""
    title = f"sample {number + 1} at x {exact(sample.x)}, y {exact(sample.y)}"
    if not sample.corners:
        return [f"{title}: more than one cell off the map, so 0"]
    rows = [
        (
            f"({corner.y}, {corner.x})",
            exact(corner.value),
            f"{exact(corner.height)} x {exact(corner.width)}",
            exact(corner.weight),
            exact(corner.weight * corner.value),
        )
        for corner in sample.corners
    ]
    weights = sum(corner.weight for corner in sample.corners)
    rows.append(("sum", "", "", exact(weights), exact(sample.value)))
    headers = ("cell (y, x)", "value", "opposite area, h x w", "weight", "weight x value")
    return [title, Grid(headers, tuple(rows))]


def _pool_section(pooled: PooledBin, bin_index: Span) -> Section:
    x1, y1, x2, y2 = pooled.box
    rounding = f"{pooled.quantization}, {pooled.partition}"
    box = f"rounded box ({rounding}): [{exact(x1)}, {exact(x2)}) x [{exact(y1)}, {exact(y2)})"
    if pooled.cells is not None:
        first, last = pooled.cells[:2], pooled.cells[2:]
        box += f", cells {first} to {last}, {x2 - x1:.0f} x {y2 - y1:.0f}"
    row, column = bin_index
    rows, columns = pooled.rows, pooled.columns
    parts: list[str | Grid] = [
        box,
        _bins("x", pooled.x_bins),
        _bins("y", pooled.y_bins),
    ]
    if pooled.maximum_at is None:
        parts.append(f"bin {row},{column} holds no cell of the map, so 0")
    else:
        inclusive = (columns[0], columns[1] - 1), (rows[0], rows[1] - 1)
        parts.append(f"bin {row},{column} holds {_cells(*inclusive)}")
        if len(pooled.values) <= SHOWN_CELLS and len(pooled.values[0]) <= SHOWN_CELLS:
            parts.append(_values_grid(pooled))
        y, x = pooled.maximum_at
        parts.append(f"maximum {exact(pooled.maximum)} at cell ({y}, {x})")
    parts.append(f"RoI Pool (max) = {exact(pooled.maximum)}")
    return Section("RoI Pool", tuple(parts))


def _bins(axis: str, spans: tuple[Span, ...]) -> str:
    """Every bin of an axis from the first one's edge, half-open, as the definitions print them."""
    first = spans[0][0]
    shown = "".join(f"[{a - first},{b - first})" for a, b in spans)
    return f"{axis} bins from {first}: {shown}"


def _values_grid(pooled: PooledBin) -> Grid:
    """The cells of the bin, the maximum in brackets."""
    lines = []
    for y, line in enumerate(pooled.values, pooled.rows[0]):
        cells = [
            f"[{exact(value)}]" if (y, x) == pooled.maximum_at else exact(value)
            for x, value in enumerate(line, pooled.columns[0])
        ]
        lines.append((f"y {y}", *cells))
    return Grid(("", *(f"x {x}" for x in range(*pooled.columns))), tuple(lines))


def _error_section(explanation: Explanation) -> Section:
    pooled, model = explanation.pool, explanation.pixel_model
    areas = f"lost {exact(pooled.area_lost_cells)}, gained {exact(pooled.area_gained_cells)} cells²"
    row, column = explanation.bin_index
    return Section(
        "What rounding moved",
        (
            f"the box, {model} pixel model, errors in cells:",
            _edge_grid(("real", "rounded"), pooled.box_edges, with_stages=False),
            f"bin {row},{column}: stage 1 rounds the box, stage 2 the bin; errors in cells:",
            _edge_grid(("real", "box", "bin"), pooled.bin_edges, with_stages=True),
            f"IoU {pooled.iou:.5f}, {areas}",
        ),
    )


def _edge_grid(places: tuple[str, ...], edges: tuple[EdgeError, ...], with_stages: bool) -> Grid:
    """The edges and their errors, in cells and in pixels."""
    stages = ("stage 1", "stage 2", "both") if with_stages else ("error",)
    rows = []
    for edge in edges:
        errors = [edge.stage1_cells, edge.stage2_cells, edge.total_cells]
        middle = [edge.boxed] if with_stages else []
        rows.append(
            (
                edge.edge,
                *(f"{place:.4f}" for place in (edge.real, *middle, edge.quantized)),
                *(f"{error + 0.0:+.4f}" for error in errors[-len(stages) :]),
                f"{edge.total_cells * edge.stride + 0.0:+.4f}",
            )
        )
    return Grid(("edge", *places, *stages, f"{stages[-1]}, px"), tuple(rows))


def describe_check(check: Check, name: str = "") -> str:
    """Whether an operator's value equals a result."""
    source = "what the operator gives" if check.source == "ran" else f"what {check.source} holds"
    answer = "yes" if check.equal else "no"
    difference = "0" if check.difference == 0 else f"{check.difference:.6g}"
    name = name or OPERATOR_NAMES[check.operator]
    return f"{name} equals {source}: {answer}, difference {difference}"


def print_explanation(explanation: Explanation, stream: TextIO) -> None:
    """The example for a terminal, RoI Pool beside RoI Align where both fit."""
    sections = build_sections(explanation)
    print_sections(describe_bin(explanation), sections, 2, len(sections) - 1, stream)


def print_markdown(explanation: Explanation, stream: TextIO, level: int = 1) -> None:
    """The example as GitHub Markdown, its title a heading of ``level``."""
    write_markdown_sections(describe_bin(explanation), build_sections(explanation), stream, level)


def write_json(explanation: Explanation, stream: TextIO) -> None:
    """One strict object; what is not a finite number is null."""
    document: ExplainedBin = {"explanation": explanation}
    write_object(document, stream)
