"""What is fuzzed: where inputs come from, and which commands read each."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from fuzz.array_inputs import (
    archive_ending,
    archive_seeds,
    generate_archive,
    generate_npy,
    generate_rois,
    npy_seeds,
    roi_seeds,
)
from fuzz.hdf5_seeds import hdf5_seeds, part_seeds
from fuzz.model_inputs import generate_model, model_seeds
from fuzz.mutation import find_checksums, mutate, mutate_in_place, renew_checksums
from fuzz.table_inputs import generate_table, table_ending, table_seeds

# The input under test is x with its ending; f.npy and r.npy beside it are right.
SMALL = (
    "--output-size", "2", "--spatial-scale", "1/4", "--threads", "1", "--provider", "cpu",
    "--ignore", "R04,R05,R08,R13",  # most inputs are strange, and are to be computed
)  # fmt: skip
ALIGN = ("align", "{x}", "r.npy", "-o", "out.npy", *SMALL)
POOL = ("pool", "f.npy", "{x}", "-o", "out.h5", *SMALL)
CHECK = ("check", "{x}", "r.npy", "--spatial-scale", "1/4")
STREAM = ("align", "-", "r.npy", "-o", "-", "-q", *SMALL)

ARRAY_COMMANDS: tuple[tuple[str, ...], ...] = (
    ALIGN,
    POOL,
    CHECK,
    ("check", "f.npy", "{x}", "--spatial-scale", "1/4"),
    ("errors", "{x}", "--spatial-scale", "1/4"),
    ("inspect", "{x}", "--stats"),
    ("inspect", "{x}", "--stats", "--format", "json"),
    ("compare", "{x}", "f.npy"),
)
ROI_COMMANDS: tuple[tuple[str, ...], ...] = (
    POOL,
    ("align", "f.npy", "{x}", "-o", "out.npy", "--sampling-ratio", "0", *SMALL),
    ("align", "f.npy", "{x}", "-o", "-", "-q", "--roi-format", "xywh", "--no-aligned", *SMALL),
    ("pool", "f.npy", "{x}", "-o", "out.npy", "--quantization", "mmcv", *SMALL),
    ("errors", "f.npy", "{x}", "--threads", "1", "--provider", "cpu", "--output-size", "2"),
    ("errors", "{x}", "--roi-format", "cxcywh", "--normalized", "--image-size", "16x20"),
    ("check", "f.npy", "{x}", "--spatial-scale", "1/4", "--format", "json"),
    ("inspect", "{x}", "--stats"),
)
HDF5_COMMANDS: tuple[tuple[str, ...], ...] = (
    ALIGN,
    ("align", "{x}::maps", "r.npy", "-o", "out.h5", *SMALL),
    ("pool", "f.npy", "{x}::rois", "-o", "out.npy", *SMALL),
    CHECK,
    ("inspect", "{x}", "--stats"),
    ("inspect", "{x}", "--stats", "--format", "json", "--allow-external"),
    ("compare", "{x}::deep/er/maps", "f.npy"),
    ("align", "{x}::maps", "r.npy", "-o", "out.npy", "--allow-external", *SMALL),
)
ARCHIVE_COMMANDS: tuple[tuple[str, ...], ...] = (
    ALIGN,
    ("align", "{x}::maps", "r.npy", "-o", "out.h5", *SMALL),
    ("pool", "f.npy", "{x}::rois", "-o", "out.npy", *SMALL),
    CHECK,
    ("inspect", "{x}", "--stats"),
    ("inspect", "{x}", "--stats", "--format", "json"),
    ("compare", "{x}::maps", "f.npy"),
)
PART_COMMANDS: tuple[tuple[str, ...], ...] = (
    ("merge", "{x}", "-o", "out.h5"),
    ("merge", "{x}", "-o", "out.npy", "-q"),
    ("merge", "{x}", "-o", "out.h5", "--compression", "gzip"),
    ("compare", "{x}", "{x}"),
    ("inspect", "{x}", "--stats"),
)
MODEL_COMMANDS: tuple[tuple[str, ...], ...] = (
    ("inspect", "{x}"),
    ("inspect", "{x}", "--format", "json", "--strict"),
    ("align", "f.npy", "r.npy", "-o", "out.npy", "--graph", "{x}", "--threads", "1"),
    ("pool", "f.npy", "r.npy", "-o", "out.npy", "--graph", "{x}", "--threads", "1"),
    ("export", "align", "out.onnx", "--graph", "{x}"),
    ("export", "pool", "out.onnx", "--graph", "{x}"),
)

Generator = Callable[[list[bytes], random.Random], bytes]


@dataclass(frozen=True)
class Target:
    """One kind of input. ``ending`` tells a file's from its bytes."""

    name: str
    seeds: Callable[[], dict[str, bytes]]
    generate: Generator
    commands: tuple[tuple[str, ...], ...]
    ending: Callable[[bytes], str]
    streams: bool = False

    def choose(self, data: bytes) -> tuple[str, ...]:
        """The command for an input, told from its bytes alone."""
        number = zlib.crc32(data) % (len(self.commands) + self.streams)
        return (*self.commands, STREAM)[number]


@cache
def _checksums(data: bytes) -> tuple[tuple[int, int], ...]:
    return tuple(find_checksums(data))


def _generate_hdf5(seeds: list[bytes], rng: random.Random) -> bytes:
    """Three of four keep every byte's place and get their checksums renewed."""
    data = rng.choice(seeds)
    if rng.random() < 0.25:
        return mutate(data, seeds, rng)
    found = mutate_in_place(data, rng)
    renew_checksums(found, _checksums(data))
    return bytes(found)


def _roi_ending(data: bytes) -> str:
    if data.startswith(b"\x93"):
        return ".npy"
    if data.startswith(b"\x89"):
        return ".h5"
    return ".tsv" if b"\t" in data else ".csv"


TARGETS: Sequence[Target] = (
    Target("npy", npy_seeds, generate_npy, ARRAY_COMMANDS, lambda data: ".npy", streams=True),
    Target(
        "archives", archive_seeds, generate_archive, ARCHIVE_COMMANDS, archive_ending, streams=True
    ),
    Target("tables", table_seeds, generate_table, ROI_COMMANDS, table_ending),
    Target("rois", roi_seeds, generate_rois, ROI_COMMANDS, _roi_ending),
    Target("hdf5", hdf5_seeds, _generate_hdf5, HDF5_COMMANDS, lambda data: ".h5", streams=True),
    Target("parts", part_seeds, _generate_hdf5, PART_COMMANDS, lambda data: ".h5"),
    Target("onnx", model_seeds, generate_model, MODEL_COMMANDS, lambda data: ".onnx"),
)
