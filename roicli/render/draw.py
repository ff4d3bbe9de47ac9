"""``roicli.draw``: one RoI as a picture, and as a figure where a file is asked for."""

from __future__ import annotations

import io
import logging
import os
from typing import Unpack

from roicli.analysis.one_roi import check_bin, check_index, open_roi, operator_looked_at
from roicli.analysis.picture import Box, Picture, build_picture, draw_operator
from roicli.core.declaration import check_known, record, settle
from roicli.core.exceptions import ParameterError
from roicli.core.look_options import DrawOptions
from roicli.core.operator_table import Operator
from roicli.core.types import Size, check_word
from roicli.core.vocabulary import ComparedOperator
from roicli.operators.taps import TapSpec
from roicli.pipeline.features import FeatureArgument
from roicli.pipeline.request import RunRequest
from roicli.render.shapes import Sheet
from roicli.storage.atomic import check_output, replace_atomically
from roicli.storage.open import inputs_unchanged

logger = logging.getLogger("roicli")

FIGURE_ENDINGS = (".svg", ".png", ".pdf")


@record(DrawOptions)
class DrawRequest(RunRequest):
    """What was asked of ``draw``."""

    roi: int
    channel: int | None
    bin_index: Size | None
    compare: tuple[str, ...] | None
    image: str | None
    operator: Operator | None

    def __post_init__(self) -> None:
        for name in self.compare or ():
            check_word("compare", name, ComparedOperator)


def draw(
    features: FeatureArgument,
    rois: FeatureArgument,
    output: str | os.PathLike[str] | None = None,
    **options: Unpack[DrawOptions],
) -> Picture:
    """One RoI on its map as a picture: cells, real and rounded box, areas, bins, sampling points.

    ``output`` is an .svg file, or .png or .pdf (which need matplotlib, as ``image`` does); None
    draws nothing, and the ``Picture`` is the result. ``channel`` None shows the mean over channels;
    ``bin_index`` (row, column) adds a close-up of that bin's first sample; ``compare`` "pool,align"
    gives each a panel; ``image`` lies under the map; ``operator`` is drawn instead of RoI Align.
    Raises RoicliError.
    """
    check_known("draw", options, DrawOptions)
    request = settle(DrawRequest, options)
    roi, channel, bin_index = request.roi, request.channel, request.bin_index
    if request.image is not None and output is None:
        raise ParameterError("image is drawn in figures only", "add -o figure.png, .svg or .pdf")
    with inputs_unchanged():
        operator = operator_looked_at(request, request.operator)
        opened = open_roi(features, rois, roi, request, operator)
        is_own = request.operator is not None or isinstance(opened.spec, TapSpec)
        if is_own and (bin_index is not None or request.compare):
            raise ParameterError(
                "a close-up and panels are RoI Align's and RoI Pool's, not another operator's",
                "drop --bin and --compare; roicli explain --operator shows a bin",
            )
    if channel is not None:
        check_index("channel", channel, len(opened.feature_map))
    if bin_index is not None:
        check_bin(bin_index, opened.align.output_size)
    picture = build_picture(
        roi, opened.rois, opened.feature_map, opened.align, opened.pool, opened.pixel_model,
        opened.level, channel, bin_index,
    )  # fmt: skip
    if is_own:
        size = (opened.feature_map.shape[1], opened.feature_map.shape[2])
        dtype = opened.feature_map.dtype
        picture = draw_operator(picture, opened.spec, opened.rois, dtype, size)
    if output is not None:
        _save(picture, os.fspath(output), opened.files, request)
    return picture


def _save(picture: Picture, output: str, taken: list[str], request: DrawRequest) -> None:
    """Draw to a temporary name, then rename."""
    from roicli.render.figure import Photo, draw_figure

    named = [] if request.image is None else [request.image]
    check_output(output, taken + named, request.force, FIGURE_ENDINGS)
    photo = None
    for name in named:
        # Matplotlib takes longer to import than all else here.
        from roicli.render.plot import read_image

        pixels = read_image(name)
        photo = Photo(pixels, place_image(pixels.shape[:2], picture, name))
    drawn = _write(draw_figure(picture, request.compare or (), photo), output)
    with replace_atomically(output, request.force) as temporary, open(temporary, "wb") as stream:
        stream.write(drawn)


def _write(sheet: Sheet, output: str) -> bytes:
    file_format = os.path.splitext(output)[1].lower().removeprefix(".")
    if file_format == "svg":
        from roicli.render.svg import write_file

        return write_file(sheet)
    from roicli.render.plot import save_sheet

    # Drawn in memory: the PDF backend hides a full disk behind an error of its own.
    drawn = io.BytesIO()
    save_sheet(sheet, drawn, file_format)
    return drawn.getvalue()


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
