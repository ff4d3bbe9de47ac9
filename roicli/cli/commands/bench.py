"""``roicli bench``: how fast a run is on the user's own files."""

from dataclasses import asdict
from typing import Any, Unpack

from roicli.cli.command import ProgressBar
from roicli.cli.commands.listings import print_json, print_rows
from roicli.cli.options import Features, ListOptions, OperatorName, QuietOption, Rois
from roicli.core.declaration import keywords
from roicli.core.look_options import BenchOptions


class BenchCommand(BenchOptions, ListOptions, QuietOption, total=False):
    """The options of ``roicli bench``."""


def bench(
    operator: OperatorName, features: Features, rois: Rois, **options: Unpack[BenchCommand]
) -> None:
    """Time whole runs on your files: median, p10, p90, rates, and the share of each stage.

    Example: roicli bench align sample_data/text_fpn.h5::p3 sample_data/text_rois.npy --runs 3
    """
    from roicli.analysis.bench import bench as measure

    with ProgressBar(options["quiet"]):
        given = keywords(BenchOptions, options)
        rows = [asdict(row) for row in measure(operator, features, rois, **given)]
    if options["list_format"] == "json":
        print_json("bench", rows)
        return
    names = [row["provider"] for row in rows]
    shown = [{key: _short(value) for key, value in row.items()} for row in rows]
    print_rows([dict(zip(("measure", *names), column, strict=True)) for column in _turn(shown)])


def _turn(rows: list[dict[str, str]]) -> list[tuple[str, ...]]:
    """One line per measure, one column per provider: that fits any terminal."""
    return [(name, *(row[name] for row in rows)) for name in rows[0] if name != "provider"]


def _short(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
