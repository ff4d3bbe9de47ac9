"""The worked example of an operator that reads cells with weights, for people and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from roicli.analysis.bin_reading import BinReading, BinSample
from roicli.core.strict_json import write_object
from roicli.render.explain import describe_check, exact
from roicli.render.sections import Grid, Section, print_sections, write_markdown_sections

if TYPE_CHECKING:
    from roicli.render.documents import ExplainedBin

# More samples than these tell no more; the JSON has them all.
SHOWN_SAMPLES = 16


def describe_reading(reading: BinReading) -> str:
    """Which bin of which RoI, in a line."""
    rows, columns = reading.output_size
    row, column = reading.bin_index
    own = f" (channel {reading.map_channel} of the map)"
    return (
        f"{reading.title}: RoI {reading.roi} on image {reading.batch_index}, channel "
        f"{reading.channel}{own if reading.map_channel != reading.channel else ''}, bin "
        f"{row},{column} (row,column) of {rows} x {columns}, stride {exact(reading.stride)}, "
        f"computed in {reading.dtype}"
    )


def build_sections(reading: BinReading) -> list[Section]:
    """The RoI, the samples with their cells, the sum, the verdict."""
    x1, y1, x2, y2 = reading.corners_px
    cells = [number / reading.stride for number in reading.corners_px]
    sides = (
        ("image, px", *map(exact, (x1, y1, x2, y2, x2 - x1, y2 - y1))),
        ("cells, px / stride", *map(exact, (*cells, cells[2] - cells[0], cells[3] - cells[1]))),
    )
    options = ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in reading.options.items()
    )
    return [
        Section("The RoI", (Grid(("", "x1", "y1", "x2", "y2", "width", "height"), sides),)),
        Section("The bin", (options, *_sample_parts(reading), *_sum(reading))),
        Section("Check", tuple(describe_check(check, reading.title) for check in reading.checks)),
    ]


def _sample_parts(reading: BinReading) -> list[str | Grid]:
    if not reading.samples:
        return ["no samples"]
    rows = [
        row for number, sample in enumerate(reading.samples[:SHOWN_SAMPLES])
        for row in _rows(number, sample)
    ]  # fmt: skip
    headers = ("sample", "x", "y", "cell x", "cell y", "weight", "value", "weighted")
    parts: list[str | Grid] = [Grid(headers, tuple(rows))]
    if len(reading.samples) > SHOWN_SAMPLES:
        parts.append(f"{len(reading.samples) - SHOWN_SAMPLES} more samples with --format json")
    return parts


def _rows(number: int, sample: BinSample) -> list[tuple[str, ...]]:
    """A line for each cell, after the sample's own place."""
    place = ["-" if axis is None else exact(axis) for axis in (sample.x, sample.y)]
    if not sample.cells:
        return [(str(number + 1), *place, "-", "-", "-", "off the map", exact(sample.value))]
    lines = []
    for cell in sample.cells:
        products = (cell.weight, cell.value, cell.weight * cell.value)
        lines.append((str(number + 1), *place, str(cell.x), str(cell.y), *map(exact, products)))
    return lines


def _sum(reading: BinReading) -> list[str]:
    count = len(reading.samples)
    if not count:
        return ["the bin is empty: 0"]
    how = f"the maximum of {count}" if reading.takes_maximum else (
        f"the sum of {count} times {exact(reading.share)}"
    )  # fmt: skip
    return [f"{reading.title} = {how} samples = {exact(reading.value)}"]


def print_reading(reading: BinReading, stream: TextIO) -> None:
    """The example for a terminal."""
    sections = build_sections(reading)
    print_sections(describe_reading(reading), sections, 1, len(sections) - 1, stream)


def print_markdown(reading: BinReading, stream: TextIO, level: int = 1) -> None:
    """The example as GitHub Markdown, its title a heading of ``level``."""
    write_markdown_sections(describe_reading(reading), build_sections(reading), stream, level)


def write_json(reading: BinReading, stream: TextIO) -> None:
    """One strict object; what is not a finite number is null."""
    document: ExplainedBin = {"explanation": reading}
    write_object(document, stream)
