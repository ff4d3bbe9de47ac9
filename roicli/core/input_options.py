"""Options of how maps and RoIs are read; ``options`` says how they are declared."""

# Annotations are read at run time, so they are no text here.
from collections.abc import Sequence
from typing import Annotated, Any, TypedDict

from roicli.core.declaration import Opt
from roicli.core.panels import READING
from roicli.core.parse import (
    AUTO,
    ArrayLike,
    Path,
    Size,
    as_layout,
    as_names,
    as_roi_scale,
    as_size,
)
from roicli.core.vocabulary import (
    AngleDirection,
    AngleUnit,
    LevelRule,
    RoiFormat,
    StoredAs,
)


class ChoiceOptions(TypedDict, total=False):
    """Whose image a RoI is of, and which RoIs there are.

    ``images`` are the keys of the maps' images, in their order: a file of them, or the keys;
    ``image_from`` an address or array that says whose each RoI is, or two (first and last rows);
    ``where`` a condition on the columns; ``drop_invalid`` leaves out rows that only fill up.
    """

    images: Annotated[
        Path | Sequence[Any] | ArrayLike | None,
        Opt(
            "--images",
            READING,
            "What the maps' images are called, in order: a file of keys, or keys like 397133,37777 "
            "or 1..8. RoIs name their image so.",
            metavar="LIST",
            shown="{image} in FEATURES, image_ids beside the maps, else numbers from 0",
            outward=True,
        ),
    ]
    image_from: Annotated[
        Path | ArrayLike | Sequence[Any] | None,
        Opt(
            "--image-from",
            READING,
            "What says whose image a RoI is: an index a RoI, counts, starts or ranges of rows an "
            "image. The kind is recognized; :indices, :counts, :starts, :ranges, :inclusive, "
            ":lengths say it.",
            metavar="ADDRESS[:KIND]|FIRST,LAST",
            outward=True,
        ),
    ]
    where: Annotated[
        str | None,
        Opt(
            "--where",
            READING,
            "Only RoIs that fulfil a condition, like \"score > 0.5 and class == 'person'\".",
            metavar="CONDITION",
        ),
    ]
    drop_invalid: Annotated[
        bool,
        Opt(
            "--drop-invalid",
            READING,
            "Leave out rows that only fill up an array (zeros, -1, NaN) or are of no image.",
            False,
        ),
    ]


class MapOptions(TypedDict, total=False):
    """How maps are held in their file.

    ``layout`` names their axes, ``decode`` applies what their attributes say of packed numbers,
    ``stored_as`` says what integers of 16 bits are.
    """

    layout: Annotated[
        str,
        Opt(
            "--layout",
            READING,
            "The axes of FEATURES as the file holds them: nchw, nhwc, ncwh (or reversed), chw, "
            "hwc, cwh, tokens:HxW; auto is what the file says of them, else nchw.",
            AUTO,
            metavar="AXES",
            read=as_layout,
        ),
    ]
    decode: Annotated[
        bool,
        Opt(
            "--decode/--no-decode",
            READING,
            "Unpack FEATURES as their attributes say: scale_factor, add_offset, _FillValue; scale, "
            "zero_point.",
            True,
            shown="decode",
        ),
    ]
    stored_as: Annotated[
        StoredAs | None,
        Opt("--stored-as", READING, "What 16-bit integers of FEATURES are."),
    ]


class ImageSizeOption(TypedDict, total=False):
    """The (height, width) of the network's input."""

    image_size: Annotated[
        str | Size | None,
        Opt(
            "--image-size",
            READING,
            "Of the network's input, in pixels.",
            metavar="HxW",
            read=as_size,
        ),
    ]


class AngleOptions(TypedDict, total=False):
    """What the angles of turned RoIs are (image, cx, cy, w, h, angle)."""

    angle_unit: Annotated[
        AngleUnit | None,
        Opt("--angle-unit", READING, "Of turned RoIs.", "degrees", yields=True),
    ]
    angle_direction: Annotated[
        AngleDirection | None,
        Opt(
            "--angle-direction",
            READING,
            "Of turned RoIs, as seen with y downwards.",
            "counter-clockwise",
            yields=True,
        ),
    ]


class ReadingOptions(MapOptions, ChoiceOptions, ImageSizeOption, AngleOptions, total=False):
    """How maps and RoIs are read.

    ``levels`` names one dataset per pyramid level, finest first; ``level_from`` an address or array
    of K level numbers instead of ``level_rule``, whose constants are ``canonical_size`` and
    ``canonical_level``; ``roi_format``, ``roi_columns`` (the names of the RoIs' columns) and
    ``normalized`` say how RoIs are stored. ``image_size`` (height, width) is that of the network's
    input. ``roi_scale`` are network pixels for each pixel of the RoIs: a number, (x, y), an address
    or an array (N,) or (N, 2).
    """

    levels: Annotated[
        str | Sequence[str] | None,
        Opt(
            "--levels",
            READING,
            "Datasets of FEATURES that form a pyramid, finest first.",
            metavar="NAME,...",
            read=as_names,
        ),
    ]
    level_rule: Annotated[
        LevelRule,
        Opt(
            "--level-rule",
            READING,
            "RoI area to level; matterport needs --image-size.",
            "torchvision",
        ),
    ]
    canonical_size: Annotated[
        float | None,
        Opt(
            "--canonical-size",
            READING,
            "Side of a RoI that is on the canonical level, in pixels.",
            metavar="PX",
            shown="224; 56 under mmdet",
        ),
    ]
    canonical_level: Annotated[
        int | None,
        Opt(
            "--canonical-level",
            READING,
            "Level of a RoI of the canonical size.",
            metavar="N",
            shown="4; the finest under mmdet",
        ),
    ]
    level_from: Annotated[
        Path | ArrayLike | None,
        Opt(
            "--level-from",
            READING,
            "K level numbers, log2(stride) or from 0, instead of the rule.",
            metavar="ADDRESS",
            outward=True,
        ),
    ]
    roi_format: Annotated[
        RoiFormat | None,
        Opt(
            "--roi-format",
            READING,
            "What the four numbers are; TensorFlow's are yxyx.",
            shown="what the names of the columns say, else xyxy",
        ),
    ]
    roi_columns: Annotated[
        str | Sequence[str] | None,
        Opt(
            "--roi-columns",
            READING,
            "Names of the RoIs' columns, in order, like image,y1,x1,y2,x2,score; _ leaves one out.",
            metavar="NAME,...",
            shown="those of the file",
            read=as_names,
        ),
    ]
    normalized: Annotated[
        bool,
        Opt("--normalized", READING, "Coordinates are from 0 to 1 of --image-size.", False),
    ]
    roi_scale: Annotated[
        float | str | Sequence[float] | ArrayLike | None,
        Opt(
            "--roi-scale",
            READING,
            "Network pixels for each pixel of the RoIs: one number, two, or one or two an image.",
            metavar="R|RX,RY|ADDRESS",
            read=as_roi_scale,
            outward=True,
        ),
    ]


class IgnoreOption(TypedDict, total=False):
    """Rules of ``check`` whose errors are computed all the same and whose warnings are not told."""

    ignore: Annotated[
        str | Sequence[str] | None,
        Opt(
            "--ignore",
            READING,
            "Rules of roicli check that are not obeyed, like R05.",
            metavar="RULE,...",
            read=as_names,
        ),
    ]


class ExternalOption(TypedDict, total=False):
    """Whether a file may lead to others."""

    allow_external: Annotated[
        bool,
        Opt(
            "--allow-external",
            READING,
            "Let HDF5 files lead to others: external links and storage, virtual datasets.",
            False,
            outward=True,
        ),
    ]


class MapSizeOption(TypedDict, total=False):
    """The map's (height, width) in cells where there are no features."""

    map_size: Annotated[
        str | Size | None,
        Opt(
            "--map-size",
            READING,
            "Without features: the map's size in cells, for clipped_fraction.",
            metavar="HxW",
            read=as_size,
        ),
    ]
