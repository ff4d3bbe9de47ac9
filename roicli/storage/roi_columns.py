"""What the columns of RoIs are called: one table of names for every source that names them.

Names are compared without regard to case, blanks and punctuation: ``Image ID`` is ``image_id``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple, get_args

from roicli.core.exceptions import InputError
from roicli.core.foreign import foreign
from roicli.core.vocabulary import RoiFormat
from roicli.storage.array import Heading

# What each format calls its four numbers, in its order.
COORDINATE_NAMES: dict[RoiFormat, tuple[str, str, str, str]] = {
    "xyxy": ("x1", "y1", "x2", "y2"),
    "xywh": ("x", "y", "w", "h"),
    "cxcywh": ("cx", "cy", "w", "h"),
    "yxyx": ("y1", "x1", "y2", "x2"),
}
# Where the columns have names, their order says nothing.
NAMED_FORMATS: tuple[RoiFormat, ...] = ("xyxy", "xywh", "cxcywh")
# What else they are called. No name here fits a corner and a centre.
# What a corner is called, in front of its axis or behind it.
FIRST_CORNERS = (
    "tl", "ul", "topleft", "upperleft", "min", "start", "from", "lo", "lower", "left", "top",
)  # fmt: skip
LAST_CORNERS = (
    "br", "lr", "bottomright", "lowerright", "max", "end", "stop", "to", "hi", "upper", "right",
    "bottom",
)  # fmt: skip


def _on_both_sides(axis: str, corners: Sequence[str]) -> tuple[str, ...]:
    """``xtl`` and ``tlx``, for every word of ``corners``."""
    return tuple(chain.from_iterable((axis + one, one + axis) for one in corners))


X1 = ("xmin", "left", *_on_both_sides("x", FIRST_CORNERS), *_on_both_sides("col", ("min",)))
Y1 = ("ymin", "top", *_on_both_sides("y", FIRST_CORNERS), *_on_both_sides("row", ("min",)))
X2 = ("xmax", "right", *_on_both_sides("x", LAST_CORNERS), *_on_both_sides("col", ("max",)))
Y2 = ("ymax", "bottom", *_on_both_sides("y", LAST_CORNERS), *_on_both_sides("row", ("max",)))
SYNONYMS: dict[str, tuple[str, ...]] = {
    "x1": ("x1", *X1),
    "y1": ("y1", *Y1),
    "x2": ("x2", *X2),
    "y2": ("y2", *Y2),
    "x": ("x1", *X1),
    "y": ("y1", *Y1),
    "w": ("w", "width"),
    "h": ("h", "height"),
    "cx": ("cx", "xcenter", "xcentre", "centerx", "centrex", "xc", "xcen", "xmid", "midx"),
    "cy": ("cy", "ycenter", "ycentre", "centery", "centrey", "yc", "ycen", "ymid", "midy"),
}
# Names that mean a corner in one file and a centre in the next.
UNCERTAIN = {"x": "x", "y": "y", "cx": "x", "cy": "y"}
# With x0 a corner is counted from 0, and x1 is the other one.
FROM_ZERO = {"x0": "x1", "y0": "y1", "x1": "x2", "y1": "y2"}
# Names that mean a corner beside others, which are asked for first: all of them are there.
BESIDE_OTHERS: tuple[tuple[set[str], dict[str, str]], ...] = (
    ({"x0", "y0"}, FROM_ZERO),
    ({"x", "y", "x2", "y2"}, {"x": "x1", "y": "y1"}),
    ({"l", "t"}, {"l": "x1", "t": "y1", "r": "x2", "b": "y2"}),
    ({"left", "upper", "right", "lower"}, {"upper": "y1", "lower": "y2"}),
)
PREFIX = r"(boundingbox|bboxes|bbox|bb|boxes|box|rois|roi)(?=.)"
# A column that says which image a RoI is of. One that is there is used, or refused; one of the
# second kind of name where there is none of the first.
IMAGE_NAMES = (
    (
        r"(batch|image|img|im|frame|sample)"
        r"(index|indices|idx|ind|inds|ix|id|ids|no|nr|num|number|name|file|filename|path)?"
        r"|(file|filename|filepath|path|fname)"
    ),
    (
        r"(source|src|input|orig|original|video)?"
        r"(image|img|im|batch|frame|sample|photo|picture|slide|scene|page|tile|slice)s?"
        r"(index|idx|id|ids|no|num|number|name|file|filename|path|key|url|uri|ref|stem|uid|uuid)?"
        r"|(url|uri|basename|stem)|bs?(index|idx|ind)"
    ),
)
# Names that are none of these and may be: of one map, such a column is not passed over in silence.
MAYBE_IMAGES = (
    r".*(batch|image|img|frame|photo|picture|scene|slide|document|doc|page|camera|view|map|feature"
    r"|dataset|sample)s?(index|indices|idx|ind|ids?|no|nr|num|number|name|file|path|key)"
)
# Only where their numbers count something up.
MAYBE_COUNTED = r"(b|bs|bi|bid|i|n|t|z|fr|cam|camera|view|map|doc|document|key|index|idx|id)"
# Beside a centre and a size, the box is turned.
ANGLE_NAMES = ("angle", "theta", "rotation", "rot")
# A column of four numbers.
BOX_NAMES = ("bbox", "bboxes", "box", "boxes", "roi", "rois", "xyxy", "xywh", "cxcywh", "yxyx")
# COCO has x, y, width and height under these; libraries call corners boxes.
COCO_NAMES = ("bbox", "bboxes")
# Other columns that are asked for by what they mean.
MEANINGS: dict[str, tuple[str, ...]] = {
    "score": ("score", "scores", "conf", "confidence", "prob", "probability"),
    "class": (
        "class", "classid", "category", "categoryid", "label", "labels", "labelid", "labelname",
        "cls", "classname", "categoryname",
    ),
}  # fmt: skip
KNOWN_NAMES = {
    *chain(*SYNONYMS.values()), *chain(*MEANINGS.values()), *BOX_NAMES, *UNCERTAIN.values(),
    "x0", "y0",
}  # fmt: skip
# So many cells of a comment are no coincidence.
FEWEST_NAMES = 3
SKIPPED = "_"


class RoiColumns(NamedTuple):
    """Where a row holds what.

    ``image`` is the place of the column that names the RoI's image, None without one;
    ``coordinates`` are those of the four numbers in the order of ``roi_format``, or of one column
    that holds all four; ``carried`` those of all others. ``are_named``: the columns have names,
    which say their order. ``is_assumed``: nothing says the format. ``angle`` is the place of the
    angle of boxes that are turned about their centre, None of others. ``rivals`` are those of other
    columns that name images too: the maps say which of them counts.
    """

    image: int | None
    coordinates: tuple[int, ...]
    roi_format: RoiFormat
    carried: tuple[int, ...] = ()
    are_named: bool = True
    is_assumed: bool = False
    angle: int | None = None
    rivals: tuple[int, ...] = ()


def find_columns(
    header: Sequence[Heading],
    said: RoiFormat | None,
    where: str,
    own: RoiFormat | None = None,
    is_given: bool = False,
) -> RoiColumns:
    """The columns that RoIs are made of, by the names in ``header``.

    ``said`` is the format that the user gave, ``own`` that the source itself defines for a column
    of four numbers; ``is_given``: the user gave the names too. Raises InputError where a coordinate
    is missing, and where two columns mean the same coordinate: which is right cannot be known.
    """
    plain = _plain_names(header)
    if {"x3", "y3"} <= set(plain):
        raise InputError(
            f"{where}: the header has x3 and y3, of polygons, found: {show_names(header)}",
            "name two opposite corners of upright ones, like --roi-columns "
            "image,x1,y1,_,_,x2,y2,_,_; else save the box around each",
        )
    images = _find_image_names(plain)
    found, roi_format, is_assumed = _find_coordinates(
        header, plain, said or ("xywh" if is_given and _is_uncertain(plain) else None), where, own
    )
    image, angle = images[0] if images else None, None
    if roi_format == "cxcywh" and len(found) == 4:
        angles = [place for place, name in enumerate(plain) if name in ANGLE_NAMES]
        _check_single(header, angles, "the angle", where)
        angle = angles[0] if angles else None
    carried = tuple(
        place
        for place in range(len(header))
        if place not in (image, angle, *found) and plain[place] and header[place].name != SKIPPED
    )
    return RoiColumns(
        image, found, roi_format, carried, is_assumed=is_assumed, angle=angle,
        rivals=tuple(images[1:]),
    )  # fmt: skip


def hold_boxes(header: Sequence[Heading]) -> bool:
    """Whether RoIs can be made of these columns."""
    try:
        find_columns(header, None, "")
    except InputError as error:
        return error.hint is not None and "--roi-format" in error.hint
    return True


def _find_coordinates(
    header: Sequence[Heading],
    plain: Sequence[str],
    said: RoiFormat | None,
    where: str,
    own: RoiFormat | None,
) -> tuple[tuple[int, ...], RoiFormat, bool]:
    """The places of the coordinates, their format, and whether that is only assumed."""
    words: tuple[RoiFormat, ...] = (said,) if said else NAMED_FORMATS
    for word in words:
        if all(_places(plain, wanted) for wanted in COORDINATE_NAMES[word]):
            names = COORDINATE_NAMES[word]
            return tuple(_find_one(header, plain, wanted, where) for wanted in names), word, False
    boxes = _find_boxes(header, plain)
    _check_single(header, boxes, "the box", where)
    if boxes:
        name = plain[boxes[0]]
        named: RoiFormat | None = next((w for w in get_args(RoiFormat) if name.endswith(w)), None)
        usual: RoiFormat = "xywh" if name in COCO_NAMES else "xyxy"
        word = said or own or named or usual
        return (boxes[0],), word, not (said or own or named)
    if said and _is_uncertain(plain):
        names = COORDINATE_NAMES[said]
        if {UNCERTAIN.get(wanted, wanted) for wanted in names[:2]} == {"x", "y"}:
            found = [plain.index("x"), plain.index("y")]
            found += [_find_one(header, plain, wanted, where) for wanted in names[2:]]
            return tuple(found), said, False
    if (affixed := _find_with_affix(plain, words)) is not None:
        return affixed
    raise _lack_coordinates(header, plain, said, where)


def _find_with_affix(
    plain: Sequence[str], words: Sequence[RoiFormat]
) -> tuple[tuple[int, ...], RoiFormat, bool] | None:
    """As ``_find_coordinates``, of names with a word in front or behind: ``det_x1``, ``x1_px``.

    None where there are no such four columns, or several: of truth and prediction, say.
    """
    known = {one for names in COORDINATE_NAMES.values() for name in names for one in SYNONYMS[name]}
    cut = [(name[: -len(one)], "") for name in plain for one in known if name.endswith(one)]
    cut += [("", name[len(one) :]) for name in plain for one in known if name.startswith(one)]
    found: dict[tuple[int, ...], tuple[tuple[int, ...], RoiFormat, bool]] = {}
    for before, behind in dict.fromkeys(cut):
        fits = re.compile(f"{re.escape(before)}(.+){re.escape(behind)}").fullmatch
        inner = [match[1] if (match := fits(name)) else "" for name in plain]
        for word in words:
            places = [_places(inner, name) for name in COORDINATE_NAMES[word]]
            if all(len(one) == 1 for one in places):
                four = tuple(one[0] for one in places)
                found[four] = (four, word, False)
                break
    return next(iter(found.values())) if len(found) == 1 else None


def _find_boxes(header: Sequence[Heading], plain: Sequence[str]) -> list[int]:
    """The columns of four numbers that are called so; else the only one, whatever its name."""
    four = [place for place, one in enumerate(header) if one.width == 4]
    named = [place for place in four if plain[place].removesuffix("s") in BOX_NAMES]
    return named or (four if len(four) == 1 else [])


def _lack_coordinates(
    header: Sequence[Heading], plain: Sequence[str], said: RoiFormat | None, where: str
) -> InputError:
    found = f"found: {show_names(header)}"
    if not said and _is_uncertain(plain):
        return InputError(
            f"{where}: the columns x and y may be a corner or the centre of the box, {found}",
            "add --roi-format xywh or --roi-format cxcywh, whichever they are",
        )
    names = COORDINATE_NAMES[said or "xyxy"]
    missing = next(name for name in names if not _places(plain, name))
    advice = "name the columns: --roi-columns image,x1,y1,x2,y2, with _ for those to be left out"
    if len(plain) == 1 and re.search(r"[^\w\s\"']", header[0].name.strip()):
        advice = "columns are separated by commas, semicolons, tabs or blanks"
    for word in NAMED_FORMATS:
        others = COORDINATE_NAMES[word]
        if said and word != said and all(_places(plain, wanted) for wanted in others):
            advice = f"drop --roi-format {said}: the names say {word}"
    return InputError(f"{where}: the header has no column {missing!r}, {found}", advice)


def _places(plain: Sequence[str], wanted: str) -> list[int]:
    return [place for place, name in enumerate(plain) if name in SYNONYMS[wanted]]


def _is_uncertain(plain: Sequence[str]) -> bool:
    """Whether there are x, y and a size, and nothing that says what point x and y are."""
    return {"x", "y"} <= set(plain) and bool(_places(plain, "w") and _places(plain, "h"))


def _find_one(header: Sequence[Heading], plain: Sequence[str], wanted: str, where: str) -> int:
    found = _places(plain, wanted)
    _check_single(header, found, wanted, where)
    return found[0]


def _plain_names(header: Sequence[Heading]) -> list[str]:
    plain = [plain_name(one.name) for one in header]
    plain = [name if name in BOX_NAMES else re.sub(PREFIX, "", name, count=1) for name in plain]
    for names, meant in BESIDE_OTHERS:
        if names <= set(plain):
            # A name that is there already keeps its meaning: MOT has x and y beside its boxes.
            taken = set(plain) - meant.keys()
            plain = [meant[one] if meant.get(one, "") not in ("", *taken) else one for one in plain]
    return plain


def is_header(cells: Sequence[str]) -> bool:
    """Whether the cells of a comment are names of columns rather than words."""
    plain = _plain_names([Heading(cell) for cell in cells])
    return sum(name in KNOWN_NAMES or is_image_name(name) for name in plain) >= FEWEST_NAMES


def is_image_name(plain: str) -> bool:
    """Whether a column of this name, without case and punctuation, names images."""
    return any(re.fullmatch(one, plain) for one in IMAGE_NAMES)


def may_name_images(name: str, are_counted: bool) -> bool:
    """Whether a column of this name, that is none of images', may be one; ``are_counted``: it holds
    the numbers from 0 or 1 on, in order.
    """
    plain = plain_name(name)
    pattern = f"{MAYBE_IMAGES}|{MAYBE_COUNTED}" if are_counted else MAYBE_IMAGES
    return re.fullmatch(pattern, plain) is not None


def _find_image_names(plain: Sequence[str]) -> list[int]:
    """The places of the columns that name images."""
    for one in IMAGE_NAMES:
        if found := [place for place, name in enumerate(plain) if re.fullmatch(one, name)]:
            return found
    return []


def find_named(names: Sequence[str], wanted: str, texts: Sequence[bool] = ()) -> int | None:
    """The place of the column that is called so, or has that meaning, as ``score`` and ``conf``.

    Of several that mean the same, as COCO's ``category_id`` and ``category_name``, it is the only
    one that ``texts`` says yes of; None without one.
    """
    plain = plain_name(wanted)
    alike = next((group for group in MEANINGS.values() if plain in group), ())
    for matches in (
        lambda name: name == wanted,
        lambda name: plain_name(name) == plain,
        lambda name: plain_name(name) in alike,
    ):
        found = [place for place, name in enumerate(names) if matches(name)]
        if len(found) > 1 and texts:
            found = [place for place in found if texts[place]]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def plain_name(name: str) -> str:
    """A name without case, blanks and punctuation."""
    return re.sub(r"[\W_]", "", name.casefold())


def _check_single(header: Sequence[Heading], found: list[int], meaning: str, where: str) -> None:
    if len(found) > 1:
        names = " and ".join(foreign(header[place].name.strip()) for place in found)
        raise InputError(
            f"{where}: the header has {len(found)} columns for {meaning}: {names}",
            "keep one: --roi-columns names them in order, with _ for those to be left out",
        )


def show_names(columns: Sequence[Heading] | Sequence[str]) -> str:
    """Names of columns, for a message."""
    names = [one if isinstance(one, str) else one.name for one in columns]
    return ", ".join(foreign(name.strip()) for name in names)
