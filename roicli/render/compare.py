"""A comparison for a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from roicli.analysis.compare.difference import GroupDifference
from roicli.analysis.compare.magnitudes import HistogramBin
from roicli.analysis.compare.run import Comparison, ProvenanceDifference
from roicli.core.strict_json import write_object
from roicli.render.screen import open_screen
from roicli.render.tables import Table, format_short, print_table

if TYPE_CHECKING:
    from roicli.render.documents import CompareDocument, ComparedRows, DifferenceOfOne

BAR_WIDTH = 24
GROUP_HEADERS = [["max"], ["mean"], ["relative", "L2"], ["cosine"]]


def write_comparison_json(found: Comparison, stream: TextIO) -> None:
    """One strict object; ``inf`` (a difference that is not finite) is null."""
    tolerance = found.tolerance
    document: CompareDocument = {
        "equal": found.equal,
        "a": {"name": found.names[0], "dtype": found.dtypes[0]},
        "b": {"name": found.names[1], "dtype": found.dtypes[1]},
        "shape": found.shape,
        "atol": tolerance.absolute,
        "rtol": tolerance.relative,
        "stat": tolerance.statistic,
        "equal_nan": tolerance.equal_nan,
        "measured": found.measured,
        "limit": found.limit,
        "elements": found.elements,
        "identical": found.identical,
        "outside": found.outside,
        "not_finite": found.not_finite,
        "max_difference": found.max_difference,
        "mean_difference": found.mean_difference,
        "p99_difference": found.p99_difference,
        "relative_l2": found.relative_l2,
        "cosine": found.cosine,
        "ulp": found.ulp,
        "histogram": found.histogram,
        "worst_rois": [{"roi": one.index, **_differences(one)} for one in found.worst_rois],
        "worst_channels": [
            {"channel": one.index, **_differences(one)} for one in found.worst_channels
        ],
        "provenance_differences": found.provenance,
        "axes": found.axes,
        "rows": _rows_object(found),
    }
    write_object(document, stream)


def _rows_object(found: Comparison) -> ComparedRows | None:
    rows = found.rows
    if rows is None:
        return None
    return {
        "a": rows.a.tolist(),
        "b": rows.b.tolist(),
        "only_a": rows.only_a.tolist(),
        "only_b": rows.only_b.tolist(),
        "compared": found.rows_matched,
        "equal": found.equal_where_matched,
    }


def _differences(group: GroupDifference) -> DifferenceOfOne:
    return {
        "max_difference": group.max_difference,
        "mean_difference": group.mean_difference,
        "relative_l2": group.relative_l2,
        "cosine": group.cosine,
    }


def print_comparison(found: Comparison, stream: TextIO) -> None:
    """Provenance first, then the verdict, the measures, the histogram and the worst."""
    for letter, name, dtype in zip("AB", found.names, found.dtypes, strict=True):
        stream.write(f"{letter}: {name} ({dtype})\n")
    stream.write(f"shape {' x '.join(map(str, found.shape))}\n")
    for difference in found.provenance or ():
        stream.write(f"{describe_provenance(difference)}\n")
    stream.write(f"\n{describe_verdict(found)}\n")
    for line in describe_alignment(found):
        stream.write(f"{line}\n")
    stream.write("\n")
    screen = open_screen(stream)
    print_table(Table([["measure"], ["value"]], _measures(found), [True, False]), screen)
    if found.elements:
        stream.write("\n")
        rows = _histogram(found.histogram, found.elements)
        headers = [["|a - b|"], ["elements"], ["share"], [""]]
        print_table(Table(headers, rows, [True, False, False, True]), screen)
    for name, groups in (("RoI", found.worst_rois), ("channel", found.worst_channels)):
        if groups:
            stream.write("\n")
            headers = [["worst", name], *GROUP_HEADERS]
            print_table(Table(headers, _group_rows(groups), [False] * 5), screen)


def describe_provenance(difference: ProvenanceDifference) -> str:
    """What A was made with and B was not, in words."""
    name, a, b = difference.name, difference.a, difference.b
    if isinstance(a, bool) and isinstance(b, bool):
        yes, no = ("A", "B") if a else ("B", "A")
        return f"{yes} was {name.replace('_', ' ')}, {no} was not"
    shown = ["does not say" if value is None else f"has {value}" for value in (a, b)]
    return f"{name}: A {shown[0]}, B {shown[1]}"


def describe_alignment(found: Comparison) -> Iterator[str]:
    """How axes and rows of one are those of the other, where they are not as they stand."""
    if found.axes is not None:
        yield found.axes
    if found.rows is not None:
        equal = "equal" if found.equal_where_matched else "different"
        yield f"{found.rows.describe()}; matched, {len(found.rows.a):,} rows are {equal}"
        if not found.rows_matched:
            yield "row by row they are compared here; --match-rows compares rows of the same RoI"
        elif not found.equal and found.equal_where_matched:
            yield "--match-rows accepts this"


def describe_verdict(found: Comparison) -> str:
    """Equal or not, under which tolerance."""
    tolerance = found.tolerance
    verdict = "Equal" if found.equal else "Different"
    limit = f"{tolerance.absolute:g} + {tolerance.relative:g} |b|"
    if found.rows is not None and found.equal_where_matched and not found.equal:
        missing = len(found.rows.only_a) + len(found.rows.only_b)
        return f"{verdict}: rows are {'missing' if missing else 'in another order'}"
    if found.rounded and found.equal and found.ulp is not None:
        return f"{verdict}: but for rounding to {found.ulp.dtype} (0 ULP of it)"
    if found.not_finite:
        return (
            f"{verdict}: {found.not_finite:,} elements are NaN or infinite in one result "
            "and something else in the other"
        )
    if tolerance.statistic == "elementwise":
        return (
            f"{verdict}: {found.outside:,} of {found.elements:,} elements have |a - b| over {limit}"
        )
    return (
        f"{verdict}: {tolerance.statistic} of |a - b| is {format_short(found.measured)}, "
        f"limit {format_short(found.limit)}"
    )


def _measures(found: Comparison) -> list[list[str]]:
    rows = [
        ["max |a - b|", format_short(found.max_difference)],
        ["mean |a - b|", format_short(found.mean_difference)],
        ["p99 |a - b|", format_short(found.p99_difference)],
        ["relative L2", format_short(found.relative_l2)],
        ["cosine", _format_cosine(found.cosine)],
        ["identical elements", f"{found.identical:,}"],
    ]
    if found.not_finite:
        rows.append(["not comparable", f"{found.not_finite:,}"])
    if found.ulp is not None:
        rows.append([f"max ULP ({found.ulp.dtype})", f"{found.ulp.max:,}"])
        rows.append([f"mean ULP ({found.ulp.dtype})", format_short(found.ulp.mean)])
    return rows


def _format_cosine(value: float) -> str:
    """As many digits as tell it from 1."""
    return format_short(value) if abs(value) < 0.999 else f"{value:.9f}"


def _histogram(bins: Sequence[HistogramBin], elements: int) -> list[list[str]]:
    largest = max((b.count for b in bins), default=1)
    rows = []
    for b in bins:
        label = "0" if b.upper == 0 else f"{b.lower:.0e} to {b.upper:.0e}"
        bar = "#" * -(-b.count * BAR_WIDTH // max(largest, 1))
        rows.append([label, f"{b.count:,}", f"{100 * b.count / elements:.1f} %", bar])
    return rows


def _group_rows(groups: Sequence[GroupDifference]) -> list[list[str]]:
    return [
        [
            str(group.index),
            *map(format_short, (group.max_difference, group.mean_difference, group.relative_l2)),
            _format_cosine(group.cosine),
        ]
        for group in groups
    ]
