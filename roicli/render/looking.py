"""What ``import roicli`` offers to look with: a worked example, a picture, a page."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Unpack

from roicli.analysis.explain import explain_align, explain_pool
from roicli.analysis.explanation import AlignedBin, Check, Explanation, PooledBin
from roicli.analysis.measured_page import measure_page
from roicli.analysis.one_roi import OpenedRoi, check_bin, check_index, open_roi, read_stored_value
from roicli.analysis.picture import Box, Picture, build_picture
from roicli.core.exceptions import ParameterError
from roicli.core.parsing import parse_names
from roicli.core.types import Array, Size, check_word
from roicli.core.vocabulary import Mode, Operator
from roicli.error_table.columns import COLUMNS, check_column
from roicli.pipeline.execute import Result
from roicli.pipeline.features import FeatureArgument
from roicli.pipeline.run import open_run
from roicli.pipeline.settings import OperatorOptions, check_known
from roicli.storage.limits import external_files
from roicli.storage.opening import inputs_unchanged
from roicli.storage.output import check_output, replace_atomically

logger = logging.getLogger("roicli")

FIGURE_ENDINGS = (".svg", ".png", ".pdf")
PAGE_ENDINGS = (".html", ".htm")


class LookOptions(OperatorOptions, total=False):
    """The options of ``align`` and ``pool`` that say what they compute."""

    mode: Mode | None
    graph: str | os.PathLike[str] | None


@inputs_unchanged()
def explain(
    features: FeatureArgument | Sequence[Array],
    rois: FeatureArgument,
    *,
    roi: int,
    channel: int = 0,
    bin_index: Size = (0, 0),
    result: str | os.PathLike[str] | Array | None = None,
    **options: Unpack[LookOptions],
) -> Explanation:
    """The arithmetic of one bin (row, column) of one RoI, and whether it equals the operators'.

    ``features`` and ``rois`` as for ``align``. Both operators are really run, and their values of
    the bin stand in ``checks``; ``result`` is a stored one (K, C, P_h, P_w) to check too. Raises
    RoicliError, naming the range of what is outside it.
    """
    check_known("explain", options, LookOptions)
    opened = open_roi(features, rois, roi, options, "explain")
    check_index("channel", channel, len(opened.feature_map))
    check_bin(bin_index, opened.align.output_size)
    channel_map, corners = opened.feature_map[channel], opened.rois.corners[0]
    aligned = explain_align(channel_map, corners.astype(channel_map.dtype), opened.align, bin_index)
    pooled = explain_pool(channel_map, opened.rois, opened.pool, opened.pixel_model, bin_index)
    x1, y1, x2, y2 = map(float, corners)
    allowed = options.get("allow_external", False)
    checks = _check(opened, channel, bin_index, aligned, pooled, result, allowed)
    return Explanation(
        roi, int(opened.rois.batch_index[0]), channel, bin_index, opened.align.output_size,
        1 / opened.align.spatial_scale, opened.pixel_model, channel_map.dtype.name,
        (x1, y1, x2, y2), aligned, pooled, opened.features_name, opened.rois_name, checks,
    )  # fmt: skip


def _check(
    opened: OpenedRoi,
    channel: int,
    bin_index: Size,
    aligned: AlignedBin,
    pooled: PooledBin,
    result: str | os.PathLike[str] | Array | None,
    allow_external: bool,
) -> tuple[Check, ...]:
    """Both values against the operators' own and, where there is one, a stored result's."""
    place = (channel, *bin_index)
    checks = [
        Check("align", "ran", aligned.value, float(opened.run(opened.align)[place])),
        Check("pool", "ran", pooled.maximum, float(opened.run(opened.pool)[place])),
    ]
    if result is not None:
        with external_files(allow_external):
            stored, name = read_stored_value(result, opened, channel, bin_index)
        # A result may be stored in a shorter dtype; the explanation is rounded to it as it was.
        checks += [
            replace(check, source=name, explained=float(stored.dtype.type(check.explained)),
                    found=float(stored))
            for check in checks
        ]  # fmt: skip
    return tuple(checks)


def draw(
    features: FeatureArgument | Sequence[Array],
    rois: FeatureArgument,
    output: str | os.PathLike[str] | None = None,
    *,
    roi: int,
    channel: int | None = None,
    bin_index: Size | None = None,
    compare: str | Sequence[str] = (),
    image: str | os.PathLike[str] | None = None,
    force: bool = False,
    **options: Unpack[LookOptions],
) -> Picture:
    """One RoI on its map as a picture: cells, real and rounded box, areas, bins, sampling points.

    ``output`` is an .svg, .png or .pdf file (needs matplotlib); None draws nothing, and the
    ``Picture`` is the result. ``channel`` None shows the mean over channels; ``bin_index`` (row,
    column) adds a close-up of that bin's first sample; ``compare`` "pool,align" gives each a panel;
    ``image`` lies under the map. Raises RoicliError.
    """
    check_known("draw", options, LookOptions)
    panels = check_panels(compare)
    if image is not None and output is None:
        raise ParameterError("image is drawn in figures only", "add -o figure.png, .svg or .pdf")
    with inputs_unchanged():
        opened = open_roi(features, rois, roi, options, "draw")
    if channel is not None:
        check_index("channel", channel, len(opened.feature_map))
    if bin_index is not None:
        check_bin(bin_index, opened.align.output_size)
    picture = build_picture(
        roi, opened.rois, opened.feature_map, opened.align, opened.pool, opened.pixel_model,
        opened.level, channel, bin_index,
    )  # fmt: skip
    if output is not None:
        _save(picture, os.fspath(output), opened.files, panels, image, force)
    return picture


def write_report(
    features: FeatureArgument | Sequence[Array],
    rois: FeatureArgument,
    output: str | os.PathLike[str],
    *,
    sort: str = "iou",
    force: bool = False,
    **options: Unpack[LookOptions],
) -> Result:
    """One HTML page about all RoIs: summary, charts, the worst, a table, drawings, provenance.

    ``output`` is an .html file, which needs nothing but itself; ``sort`` is the column that ranks
    the worst. Both operators are run, as by ``errors``, for the value columns. Raises RoicliError.
    """
    from roicli.render.html.page import import_jinja, render_page

    import_jinja()
    check_known("write_report", options, LookOptions)
    path = os.fspath(output)
    # "values" sizes the blocks for what measuring holds.
    with (
        inputs_unchanged(),
        closing(open_run("align", features, rois, {**options, "values": True})) as run,
    ):
        check_output(path, run.inputs.files, force, PAGE_ENDINGS)
        check_column(sort, COLUMNS)
        page, table = measure_page(run, sort, options.get("progress"))
    text = render_page(page)
    with (
        replace_atomically(path, force) as temporary,
        open(temporary, "w", encoding="utf-8") as stream,
    ):
        stream.write(text)
    return Result("report", table, page.parameters, None, path)


def check_panels(compare: str | Sequence[str]) -> tuple[str, ...]:
    """``pool,align`` as names. Raises ParameterError for others."""
    names = parse_names(compare) if isinstance(compare, str) else tuple(compare)
    for name in names:
        check_word("compare", name, Operator)
    return names


def _save(
    picture: Picture,
    output: str,
    taken: list[str],
    panels: tuple[str, ...],
    image: str | os.PathLike[str] | None,
    force: bool,
) -> None:
    """Draw to a temporary name, then rename."""
    from roicli.render.figure import read_image, save_figure

    named = [] if image is None else [os.fspath(image)]
    check_output(output, taken + named, force, FIGURE_ENDINGS)
    photo = read_image(named[0]) if named else None
    extent = (0.0, 0.0, 0.0, 0.0)
    if photo is not None:
        extent = place_image(photo.shape[:2], picture, named[0])
    file_format = os.path.splitext(output)[1].lower().removeprefix(".")
    with replace_atomically(output, force) as temporary:
        save_figure(picture, temporary, file_format, panels, photo, extent)


def place_image(size: Size, picture: Picture, name: str) -> Box:
    """Where an image (height, width) lies, x1, y1, x2, y2 in cells of the picture.

    An image that ends within a cell of the map is placed pixel by pixel; another is stretched
    over the map, which is noted where their aspects differ.
    """
    height, width = picture.map_size
    stride = picture.stride
    if abs(size[0] - height * stride) < stride and abs(size[1] - width * stride) < stride:
        return 0.0, 0.0, size[1] / stride, size[0] / stride
    if abs(size[1] / size[0] * height / width - 1) > 1 / min(height, width):
        logger.info(
            f"{name}: {size[1]} x {size[0]} px is of another aspect than the map, "
            f"{width * stride:g} x {height * stride:g} px: the image is stretched over it"
        )
    return 0.0, 0.0, float(width), float(height)
