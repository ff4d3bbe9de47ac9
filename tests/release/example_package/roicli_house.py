"""A preset for roicli: the RoI Align of a library of one's own, whose default ratio is 3."""

from dataclasses import replace

from roicli.operators.convention import HALF_PIXEL, Convention
from roicli.operators.libraries import LibraryFunction

DEFAULT = Convention(HALF_PIXEL, sampling_ratio=3)

ROWS = (
    LibraryFunction(
        "house",
        "roi_align",
        "1.0",
        DEFAULT,
        "house/csrc/roi_align.cpp, with its defaults",
        also=(replace(DEFAULT, reduction="max"),),
    ),
)
