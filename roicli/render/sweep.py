"""A sweep over sampling ratios for a terminal and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from roicli.analysis.sweep import Sweep, SweepRecord
from roicli.core.strict_json import write_object
from roicli.render.screen import open_screen
from roicli.render.tables import Table, format_short, print_table

if TYPE_CHECKING:
    from roicli.render.documents import SweepDocument

# By how much they tell: the first that fit a terminal are shown, and always the first three.
FEWEST_COLUMNS = 3
HEADERS = (
    ("size", "class"),
    ("sampling", "ratio"),
    ("relative", "L2"),
    ("max", "error"),
    ("samples", "a bin"),
    ("seconds",),
    ("n",),
    ("p95", "relative", "L2"),
    ("relative L2", "from the", "fine grid"),
    ("max error", "from the", "fine grid"),
)


def write_sweep_json(found: Sweep, stream: TextIO) -> None:
    """One strict object with ``recommended_sampling_ratio`` and ``records``."""
    document: SweepDocument = {
        "recommended_sampling_ratio": found.recommended_sampling_ratio,
        "recommended_by_size_class": found.recommended_by_size_class,
        "tolerance": found.tolerance,
        "fine_grid": found.fine_grid,
        "fine_grid_error": found.fine_grid_error,
        "rois": found.rois,
        "rois_measured": found.rois_measured,
        "left_out": found.left_out,
        "records": found.records,
    }
    write_object(document, stream)


def print_sweep(found: Sweep, stream: TextIO) -> None:
    """The ratios by size class, as many columns as fit, then what is recommended."""
    rows, previous = [], ""
    for record in found.records:
        cells = _cells(record)
        cells[0] = "" if record.size_class == previous else record.size_class
        previous = record.size_class
        rows.append(cells)
    table = Table(HEADERS, rows, [True] + [False] * (len(HEADERS) - 1))
    screen = open_screen(stream)
    count = max(table.fitting(screen.width), FEWEST_COLUMNS)
    stream.write("RoI Align against the exact mean over each bin (Precise RoI Pooling)\n")
    print_table(table.first(count), screen)
    stream.write(f"{found.rois_measured} of {found.rois} RoIs")
    stream.write(f", {found.left_out} of no use\n" if found.left_out else "\n")
    stream.write(
        f"fine grid {found.fine_grid} x {found.fine_grid}: "
        f"median relative L2 {format_short(found.fine_grid_error)}\n"
    )
    stream.write(f"\n{_describe_recommendation(found)}\n")


def _cells(record: SweepRecord) -> list[str]:
    return [
        record.size_class,
        _ratio(record.sampling_ratio),
        format_short(record.relative_l2),
        format_short(record.max_difference),
        format_short(record.samples_per_bin),
        f"{record.seconds:.4f}",
        str(record.n),
        format_short(record.relative_l2_p95),
        format_short(record.fine_grid_relative_l2),
        format_short(record.fine_grid_max_difference),
    ]


def _ratio(ratio: int | None) -> str:
    return "none" if ratio is None else str(ratio) if ratio else "adaptive"


def _describe_recommendation(found: Sweep) -> str:
    by_class = ", ".join(
        f"{name} {_ratio(ratio)}" for name, ratio in found.recommended_by_size_class.items()
    )
    limit = f"a median relative L2 within {found.tolerance:g}"
    if found.recommended_sampling_ratio is None:
        return f"No sampling ratio has {limit} ({by_class})"
    best = found.recommended_sampling_ratio
    return f"--sampling-ratio {best} is the smallest with {limit}\n({by_class})"
