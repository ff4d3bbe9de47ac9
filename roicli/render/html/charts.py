"""Charts as plain SVG text: histograms, clouds, stacked shares. Colours are the page's classes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from roicli.analysis.page import Cloud, Group, Page, share_names
from roicli.analysis.picture import round_ticks
from roicli.core.types import FloatArray
from roicli.render.tables import format_count

WIDTH, ROW, LEFT, GAP = 640, 54, 92, 28
TITLES = {
    "edge_error_max_px": "largest error of the box's edges, px",
    "total_edge_error_max_px": "largest error of the bins' edges, px",
}


def _svg(width: float, height: float, label: str, parts: Iterable[str]) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">'
        f"{escape(words)}</text>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def draw_histograms(page: Page) -> str:
    """A row a group, a column a measure: how many RoIs are how far off, and the median."""
    names = list(page.edges)
    width = (WIDTH - LEFT - GAP * (len(names) - 1)) / len(names)
    height = 26 + ROW * len(page.groups) + 24
    parts = []
    for column, name in enumerate(names):
        left, edges = LEFT + column * (width + GAP), page.edges[name]
        parts.append(_text(left, 14, TITLES[name], kind="strong"))
        bottom = 26 + ROW * len(page.groups)
        for tick in round_ticks(0, float(edges[-1])):
            x = left + tick / edges[-1] * width
            parts += [_line(x, 26, x, bottom, "rule"), _text(x, bottom + 14, f"{tick:g}", "middle")]
        for row, group in enumerate(page.groups):
            parts += _histogram(group, name, edges, left, 26 + ROW * (row + 1), width)
    for row, group in enumerate(page.groups):
        base = 26 + ROW * (row + 1)
        parts += [
            _text(LEFT - 8, base - 22, group.name, "end", "strong"),
            _text(LEFT - 8, base - 8, format_count(group.n, "RoI"), "end"),
        ]
    return _svg(WIDTH, height, "Distribution of the pixel errors by size class and level", parts)


def _histogram(
    group: Group, name: str, edges: FloatArray, left: float, base: float, width: float
) -> list[str]:
    counts, span = group.counts[name], float(edges[-1])
    highest, step = max(counts, default=0) or 1, width / len(counts)
    parts = [_line(left, base, left + width, base, "axis")]
    for i, count in enumerate(counts):
        if not count:
            continue
        tall = (ROW - 14) * count / highest
        low, high = edges[i], edges[i + 1]
        parts.append(
            f'<rect x="{left + i * step:.1f}" y="{base - tall:.1f}" width="{step - 1:.1f}" '
            f'height="{tall:.1f}" class="bar"><title>{low:.2f} to {high:.2f} px: '
            f"{format_count(count, 'RoI')}</title></rect>"
        )
    median = group.medians[name]
    if median is not None:
        x = left + median / span * width
        parts.append(_line(x, base - ROW + 12, x, base, "median"))
        near_end = x > left + width - 84
        parts.append(
            _text(x + (-4 if near_end else 4), base - ROW + 20, f"median {median:.1f}",
                  "end" if near_end else "start", "halo")
        )  # fmt: skip
    return parts


def draw_clouds(page: Page) -> str:
    """Error against RoI size: the worst edge in pixels, and the IoU."""
    cloud, width, height = page.cloud, (WIDTH - LEFT / 2 - 60) / 2, 200
    if not len(cloud.rois):
        return _svg(WIDTH, 40, "no RoIs", [_text(8, 24, "no RoIs")])
    side = np.maximum(cloud.side_px, 0.5)
    low, high = math.log10(side.min()) - 0.05, math.log10(side.max()) + 0.05
    across = (np.log10(side) - low) / (high - low)
    shown = [
        (
            "worst edge of the box, px",
            cloud.edge_error_max_px,
            float(cloud.edge_error_max_px.max()),
        ),
        ("IoU of the rounded and the real box", cloud.iou, 1.0),
    ]
    levels = sorted(set(cloud.level.tolist()))
    parts: list[str] = []
    for column, (title, values, top) in enumerate(shown):
        left = LEFT / 2 + column * (width + 60)
        parts += _frame(title, left, width, height, low, high, top or 1.0)
        parts += _points(
            cloud, across * width + left, 26 + height * (1 - values / (top or 1.0)), levels
        )
    if len(levels) > 1:
        for i, level in enumerate(levels):
            x = LEFT / 2 + 90 * i
            parts.append(
                f'<circle cx="{x + 4:.1f}" cy="{height + 64}" r="4" class="dot c{i % 6}"/>'
            )
            parts.append(_text(x + 13, height + 68, f"level {level}"))
    return _svg(WIDTH, height + 76, "Error against RoI size", parts)


def _frame(
    title: str, left: float, width: float, height: float, low: float, high: float, top: float
) -> list[str]:
    """Axes: logarithmic side in px across, an error upwards."""
    bottom = 26 + height
    parts = [
        _text(left, 14, title, kind="strong"),
        _line(left, bottom, left + width, bottom, "axis"),
    ]
    for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000):
        if low <= math.log10(tick) <= high:
            x = left + (math.log10(tick) - low) / (high - low) * width
            parts += [_line(x, 26, x, bottom, "rule"), _text(x, bottom + 14, f"{tick}", "middle")]
    for value in round_ticks(0, top, 5):
        y = bottom - value / top * height
        parts += [
            _line(left, y, left + width, y, "rule"),
            _text(left - 5, y + 4, f"{value:g}", "end"),
        ]
    parts.append(_text(left + width, bottom + 30, "side of the RoI (root of its area), px", "end"))
    return parts


def _points(cloud: Cloud, xs: FloatArray, ys: FloatArray, levels: Sequence[int]) -> list[str]:
    return [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" class="dot c{levels.index(level) % 6}" '
        f'data-roi="{roi}"><title>RoI {roi}</title></circle>'
        for roi, level, x, y in zip(
            cloud.rois.tolist(), cloud.level.tolist(), xs.tolist(), ys.tolist(), strict=True
        )
    ]


def draw_shares(page: Page) -> str:
    """A bar a group: the mean share of each cause; what is negative goes left of zero."""
    names = share_names()
    stacks = [[group.shares[key] or 0.0 for key, _ in names] for group in page.groups]
    low = min([0.0, *(sum(s for s in stack if s < 0) for stack in stacks)])
    high = max([1.0, *(sum(s for s in stack if s > 0) for stack in stacks)])
    width, row = WIDTH - LEFT - 26, 30
    scale, bottom = width / (high - low), 34 + row * len(stacks)
    parts = []
    for i, (_, words) in enumerate(names):
        parts.append(
            f'<rect x="{LEFT + 150 * i}" y="4" width="12" height="12" class="share s{i}"/>'
        )
        parts.append(_text(LEFT + 150 * i + 18, 14, words))
    for tick in round_ticks(low, high):
        x = LEFT + (tick - low) * scale
        parts += [_line(x, 26, x, bottom, "rule")]
        parts += [_text(x, bottom + 14, f"{100 * tick:.0f} %", "middle")]
    for number, (group, stack) in enumerate(zip(page.groups, stacks, strict=True)):
        y = 30 + row * number
        parts.append(_text(LEFT - 8, y + 16, group.name, "end", "strong"))
        parts += _stack(stack, LEFT - low * scale, y, scale)
    zero = LEFT - low * scale
    parts.append(_line(zero, 26, zero, bottom, "axis"))
    return _svg(WIDTH, bottom + 22, "Where the error of the values comes from", parts)


def _stack(stack: Sequence[float], zero: float, y: float, scale: float) -> list[str]:
    """Positive shares to the right of zero, negative ones to the left."""
    parts, right, left = [], zero, zero
    for i, share in enumerate(stack):
        wide = abs(share) * scale
        x = right if share >= 0 else left - wide
        right, left = (right + wide, left) if share >= 0 else (right, left - wide)
        parts.append(
            f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="22" class="share s{i}">'
            f"<title>{100 * share:.1f} %</title></rect>"
        )
        if wide > 34:
            parts.append(_text(x + wide / 2, y + 15, f"{100 * share:.0f} %", "middle", f"on s{i}"))
    return parts
