"""The file of what was captured: a group a head, which align and pool take as it is.

``/head0`` has a dataset (N, C, H, W) a level, with its ``spatial_scale``; ``rois`` (K, 5), whose
images are numbers of these N maps; ``levels`` (K,) for ``--level-from``; and the nodes' own
``roi_features`` (K, C, P_h, P_w). A map that several nodes read is there once, under several
names. Where images have maps of other sizes a level is a dataset an image, ``/head0/{image}/p3``.
``/image_ids`` (N,) and ``/image_sizes`` (N, 2, 2), original and network height and width, are the
images of all runs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np

from roicli.core.exceptions import InputError, RoicliError
from roicli.core.foreign import foreign, stored_text
from roicli.core.record import frozen
from roicli.core.types import Array, Size
from roicli.pipeline.capture.heads import Head
from roicli.pipeline.capture.plan import CapturePlan
from roicli.pipeline.capture.sites import RoiSite
from roicli.pipeline.capture.values import read_site
from roicli.pipeline.image_scale import find_scale
from roicli.pipeline.provenance import flatten
from roicli.runtime.model_run import Value
from roicli.storage.formats.hdf5.tree import Dataset, Group, Node, OtherName, Texts
from roicli.storage.tensor_log import Entry, Place, TensorLog

VERSION = 1
IMAGE_IDS, IMAGE_SIZES = "image_ids", "image_sizes"
ROIS, LEVELS, RESULT = "rois", "levels", "roi_features"
# What heads and levels are called, and what is stored of a rule: no other option of a run.
_NAME = re.compile(r"(head|p|m)\d{1,6}")
RULES = {
    "align": {"output_size", "sampling_ratio", "aligned", "mode", "sampling_grid"},
    "pool": {"output_size", "quantization", "partition"},
    "crop-and-resize": {
        "output_size", "interpolation", "extrapolation_value", "normalization",
    },
}  # fmt: skip


@frozen
class StoredHead:
    """A head as the file has it. ``per_image``: its maps are a dataset an image.

    ``images`` are the numbers of its maps' images among all; ``rois`` is K.
    """

    name: str
    operator: str
    options: Mapping[str, Any]
    levels: tuple[str, ...]
    numbers: tuple[int, ...]
    nodes: tuple[str, ...]
    op_type: str
    opset: int
    inside: tuple[str, ...]
    tensors: tuple[str, ...]
    outputs: tuple[str, ...]
    images: tuple[int, ...]
    rois: int
    result_shape: tuple[int, ...]
    per_image: bool = False
    scales: tuple[float, ...] = field(default=())

    @staticmethod
    def from_json(text: str) -> StoredHead:
        """Raises ValueError, TypeError for what is none: a file may be a stranger's."""
        found: dict[str, Any] = json.loads(text)
        for name, value in found.items():
            if isinstance(value, list):
                found[name] = tuple(foreign(one) if isinstance(one, str) else one for one in value)
            elif isinstance(value, str):
                found[name] = foreign(value)
        head = StoredHead(**found)
        parts = (head.nodes, head.levels, head.numbers, head.scales, head.outputs)
        if not all(map(_NAME.fullmatch, (head.name, *head.levels))) or head.operator not in RULES:
            raise ValueError("names that capture does not give")
        if not head.options.keys() <= RULES[head.operator] or len(set(map(len, parts))) != 1:
            raise ValueError("options that capture does not store")
        return head

    def arguments(self, path: str) -> tuple[str, str, dict[str, str]]:
        """The maps, the RoIs, and the options that name levels, as the operator's call has them."""
        base = f"{path}::{self.name}"
        image = "{image}/" if self.per_image else ""
        rois = f"{base}/{ROIS}"
        if len(self.levels) == 1:
            return f"{base}/{image}{self.levels[0]}", rois, {}
        level_from = {"level_from": f"{base}/{LEVELS}"}
        if self.per_image:
            return ",".join(f"{base}/{image}{level}" for level in self.levels), rois, level_from
        return base, rois, {"levels": ",".join(self.levels), **level_from}

    def to_json(self) -> str:
        """One text, for an attribute."""
        found = {
            name: [stored_text(one) if isinstance(one, str) else one for one in value]
            if isinstance(value, tuple) else value
            for name, value in vars(self).items()
        }  # fmt: skip
        return json.dumps(found | {"options": dict(self.options)})


def log_arrays(plan: CapturePlan, values: Sequence[Value]) -> dict[str, Array]:
    """What a run adds to the log: maps by their place, RoIs and outputs by their node's number.

    A node that the run did not come to adds nothing. Raises InputError.
    """
    arrays: dict[str, Array] = {}
    for number, site in enumerate(plan.model.sites):
        tensors = plan.places[site]
        found = read_site(site, tensors, values)
        if found is not None:
            arrays.setdefault(f"map{tensors.features}", found.features)
            arrays[f"rois{number}"], arrays[f"result{number}"] = found.rois, found.output
    for number, named in enumerate(plan.named):
        value = values[named.place]
        if isinstance(value, list):
            raise InputError(
                f"tensor {named.name} is one a loop's iteration, expected one an image"
            )
        arrays[f"named{number}"] = value
    return arrays


def count_images(arrays: Mapping[str, Array]) -> int:
    """How many images a run was of: its maps' first axis, 1 without a map."""
    maps = [len(values) for name, values in arrays.items() if name.startswith("map")]
    return max(maps, default=1)


class CaptureTree:
    """The nodes of the file, from what the runs left in the log."""

    def __init__(self, plan: CapturePlan, log: TensorLog, parameters: Mapping[str, Any]) -> None:
        self._plan, self._log, self._parameters = plan, log, parameters
        self._counts = [int(entry.facts["images"]) for entry in log.entries]
        self._written: dict[tuple[int, float], str] = {}
        numbers = {site: number for number, site in enumerate(plan.model.sites)}
        self.heads = tuple(
            head for one in plan.model.heads if (head := self._describe(one, numbers)) is not None
        )
        self._numbers = numbers
        self._sites = {head.name: head.sites for head in plan.model.heads}

    @property
    def total_bytes(self) -> int:
        """What the values take."""
        return sum(place.nbytes for entry in self._log.entries for place in entry.arrays.values())

    def _map_name(self, site: RoiSite) -> str:
        return f"map{self._plan.places[site].features}"

    def _runs(self, head_sites: Sequence[RoiSite]) -> list[int]:
        """The runs that have every map of a head."""
        names = [self._map_name(site) for site in head_sites]
        return [
            number
            for number, entry in enumerate(self._log.entries)
            if all(name in entry.arrays for name in names)
        ]

    def _describe(self, head: Head, numbers: Mapping[RoiSite, int]) -> StoredHead | None:
        """The head as it will be stored; None where no run came to it. Raises InputError."""
        runs, site = self._runs(head.sites), head.first
        results = [
            self._log.entries[run].arrays[f"result{numbers[one]}"]
            for run in runs
            for one in head.sites
            if f"result{numbers[one]}" in self._log.entries[run].arrays
        ]
        if not results:
            return None
        shapes = {place.shape[1:] for place in results}
        if len(shapes) > 1:
            shown = ", ".join(map(str, sorted(shapes)[:2]))
            raise InputError(
                f"{self._plan.model.path}: results of {head.name} ({site.name}) are of shapes "
                f"{shown}, expected one"
            )
        starts = np.cumsum([0, *self._counts])
        images = [
            int(starts[run]) + number
            for run in runs
            for number in range(self._log.entries[run].arrays[self._map_name(site)].shape[0])
        ]
        per_image = any(
            len({self._log.entries[run].arrays[self._map_name(one)].shape[1:] for run in runs}) > 1
            for one in head.sites
        )
        options = {name: value for name, value in site.options.items() if name != "spatial_scale"}
        shape = next(iter(shapes))
        rois = sum(place.shape[0] for place in results)
        return StoredHead(
            head.name, site.operator, options | {"output_size": list(shape[1:])}, head.levels,
            head.numbers, tuple(str(one.name) for one in head.sites), site.op_type, site.opset,
            site.inside, tuple(one.features for one in head.sites),
            tuple(one.output for one in head.sites), tuple(images), rois, (rois, *shape), per_image,
            tuple(one.spatial_scale for one in head.sites),
        )  # fmt: skip

    def nodes(self) -> Iterator[Node]:
        """Everything that is in the file."""
        ids = [name for entry in self._log.entries for name in entry.facts["ids"]]
        sizes = [
            entry.facts["sizes"]
            for entry, count in zip(self._log.entries, self._counts, strict=True)
            for _ in range(count)
        ]
        yield Texts(IMAGE_IDS, [stored_text(foreign(name)) for name in ids])
        yield _whole(IMAGE_SIZES, np.array(sizes, np.int64).reshape(-1, 2, 2))
        for head in self.heads:
            yield from self._head_nodes(head)
        for number, name in enumerate(self._safe_names()):
            yield from self._named_nodes(number, name, [tuple(size[1]) for size in sizes])
        said = {"capture_version": VERSION, "heads": [head.name for head in self.heads]}
        yield Group("", flatten(self._parameters) | said)

    def _head_nodes(self, head: StoredHead) -> Iterator[Node]:
        sites = self._sites[head.name]
        runs = self._runs(sites)
        for site, level in zip(sites, head.levels, strict=True):
            yield from self._map_nodes(head, site, level, runs)
        kept = [self._log.entries[run].arrays for run in runs]
        dtype = next(
            np.dtype(a[f"rois{self._numbers[s]}"].dtype)
            for a in kept for s in sites if f"rois{self._numbers[s]}" in a
        )  # fmt: skip
        yield Dataset(
            f"{head.name}/{ROIS}", (head.rois, 5), dtype, lambda: self._rois(sites, runs),
            {"columns": "batch_index, x1, y1, x2, y2"},
        )  # fmt: skip
        if len(sites) > 1:
            levels = [
                np.full(place.shape[0], number, np.int64)
                for _, place, number in self._places(sites, runs, RESULT, head.numbers)
            ]
            yield _whole(f"{head.name}/{LEVELS}", np.concatenate(levels))
        results = list(self._places(sites, runs, RESULT, head.numbers))
        yield Dataset(
            f"{head.name}/{RESULT}", head.result_shape, results[0][1].dtype,
            lambda: (self._log.read(place) for _, place, _ in results),
        )  # fmt: skip
        if len(head.images) < sum(self._counts):
            yield _whole(f"{head.name}/images", np.array(head.images, np.int64))
        said = {**head.options, "nodes": list(head.nodes), "op_type": head.op_type}
        said |= {"operator": head.operator, "opset": head.opset, "inside": list(head.inside)}
        yield Group(head.name, flatten(said) | {"capture": head.to_json()})

    def _places(
        self, sites: Sequence[RoiSite], runs: Sequence[int], what: str, numbers: Sequence[int]
    ) -> Iterator[tuple[int, Place, int]]:
        """(run, place, level) of what the nodes gave, image by image and level by level."""
        key = "result" if what == RESULT else what
        for run in runs:
            arrays = self._log.entries[run].arrays
            for site, level in zip(sites, numbers, strict=True):
                name = f"{key}{self._numbers[site]}"
                if name in arrays:
                    yield run, arrays[name], level

    def _rois(self, sites: Sequence[RoiSite], runs: Sequence[int]) -> Iterator[Array]:
        """RoIs with their maps' numbers among the head's."""
        name = self._map_name(sites[0])
        counts = [self._log.entries[run].arrays[name].shape[0] for run in runs]
        before = dict(zip(runs, np.cumsum([0, *counts]).tolist(), strict=False))
        for run, place, _ in self._places(sites, runs, ROIS, range(len(sites))):
            rows = self._log.read(place)
            rows[:, 0] += before[run]
            yield rows

    def _map_nodes(
        self, head: StoredHead, site: RoiSite, level: str, runs: Sequence[int]
    ) -> Iterator[Node]:
        """A level's maps, once in the file; other heads have other names of them."""
        name, key = self._map_name(site), (self._plan.places[site].features, site.spatial_scale)
        places = [self._log.entries[run].arrays[name] for run in runs]
        said = {
            "spatial_scale": site.spatial_scale,
            "tensor": stored_text(foreign(site.features)),
            "node": stored_text(site.name),
        }
        images = range(sum(place.shape[0] for place in places))
        names = [f"{head.name}/{level}"]
        if head.per_image:
            names = [f"{head.name}/{number}/{level}" for number in images]
        same = self._written.get(key)
        if same is not None:
            first = [same.replace("{image}", str(number)) for number in images]
            yield from (OtherName(one, other) for one, other in zip(names, first, strict=False))
            return
        pattern = f"{head.name}/{{image}}/{level}" if head.per_image else names[0]
        if len(head.images) == sum(self._counts):
            self._written[key] = pattern
        if not head.per_image:
            shape = (len(images), *places[0].shape[1:])
            yield Dataset(names[0], shape, places[0].dtype,
                          lambda: (self._log.read(place) for place in places), said)  # fmt: skip
            return
        number = 0
        for place in places:
            for row in range(place.shape[0]):
                part = Place(place.offset + row * place.nbytes // place.shape[0], place.dtype,
                             (1, *place.shape[1:]))  # fmt: skip
                yield _read_once(self._log, names[number], part, said)
                number += 1

    def _safe_names(self) -> list[str]:
        """What the tensors that were asked for by name are called in the file."""
        found: list[str] = []
        for named in self._plan.named:
            plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in named.name.strip("/"))
            plain = plain.encode("ascii", "replace").decode().replace("?", "_") or "tensor"
            same = sum(one == plain or one.startswith(f"{plain}~") for one in found)
            found.append(f"{plain}~{same}" if same else plain)
        return found

    def _named_nodes(self, number: int, name: str, sizes: Sequence[Size]) -> Iterator[Node]:
        """A tensor of every run: one dataset where its other axes are the same for all."""
        entries: list[Entry] = self._log.entries
        places = [entry.arrays[f"named{number}"] for entry in entries]
        raw = self._plan.named[number].name
        said: dict[str, Any] = {"tensor": stored_text(foreign(raw))}
        # A number without axes is a row of one.
        places = [one if one.shape else Place(one.offset, one.dtype, (1,)) for one in places]

        def describe(place: Place, image: int) -> dict[str, Any]:
            scale = _scale_of(name, place.shape, sizes[image])
            return said if scale is None else said | {"spatial_scale": scale}

        if len({place.shape[1:] for place in places}) > 1:
            for image, place in enumerate(places):
                at = f"outputs/{image}/{name}"
                yield _read_once(self._log, at, place, describe(place, image))
            return
        shape = (sum(place.shape[0] for place in places), *places[0].shape[1:])
        yield Dataset(
            f"outputs/{name}", shape, places[0].dtype,
            lambda: (self._log.read(place) for place in places), describe(places[0], 0),
        )  # fmt: skip


def _read_once(log: TensorLog, name: str, place: Place, attributes: Mapping[str, Any]) -> Dataset:
    return Dataset(name, place.shape, place.dtype, lambda: [log.read(place)], attributes)


def _whole(name: str, values: Array) -> Dataset:
    return Dataset(name, values.shape, values.dtype, lambda: [values])


def _scale_of(name: str, shape: Sequence[int], size: Size) -> float | None:
    """The scale of a tensor that is a map of the network's input; None where it is none."""
    if len(shape) != 4 or 0 in size or math.prod(shape) == 0:
        return None
    try:
        return float(find_scale(name, (shape[2], shape[3]), (int(size[0]), int(size[1]))))
    except RoicliError:
        return None
