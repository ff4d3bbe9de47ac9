"""The pass over the maps' images on a Dask cluster; everything else of a check stays here.

The rules need the extremes of every image, and no rule looks at two images' values together but the
one for images that are stored twice, which compares digests of the few that may be.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from roicli.analysis.check.inputs import Measure
from roicli.analysis.check.map_statistics import (
    ImageStatistics,
    MapStatistics,
    digest_images,
    join_statistics,
    measure_images,
)
from roicli.core.exceptions import ParameterError
from roicli.core.record import frozen
from roicli.pipeline.cluster.connection import Cluster, connect, parse_local
from roicli.pipeline.cluster.tasks import as_outcome, run_tasks
from roicli.pipeline.features import AS_THEY_SAY, FeatureLevel, MapReading, open_pyramid
from roicli.storage.address import parse_address, path_from_root
from roicli.storage.file_state import FileState, check_unchanged
from roicli.storage.limits import external_files, external_is_allowed

TASKS_A_THREAD = 4


@frozen
class ImagesTask:
    """Images of one map: those from ``start`` to ``stop`` to measure, or ``images`` to digest."""

    address: str
    spatial_scale: float
    files: Mapping[str, FileState]
    versions: dict[str, str]
    start: int = 0
    stop: int = 0
    images: Sequence[int] | None = None
    allow_external: bool = False
    reading: MapReading = AS_THEY_SAY


def look_at_images(task: ImagesTask) -> Any:
    """What the task asks for, on a worker."""
    with external_files(task.allow_external):
        return as_outcome(lambda: _look(task), task.versions)


def _look(task: ImagesTask) -> ImageStatistics | list[bytes]:
    check_unchanged(task.files)
    images = np.arange(task.start, task.stop) if task.images is None else np.array(task.images)
    scales = (task.spatial_scale,)
    with contextlib.closing(open_pyramid(task.address, (), scales, task.reading)) as pyramid:
        pyramid.expect(images)
        (level,) = pyramid.levels
        if task.images is not None:
            return digest_images(level, task.images)
        return measure_images(level, task.start, task.stop)


def plan_measuring(
    features: Any, address: str, reading: MapReading, stack: contextlib.ExitStack
) -> Measure:
    """What measures a map on the cluster, which is asked when a rule first wants to know.

    Raises ParameterError for features that workers cannot read.
    """
    parse_local(address)
    if not isinstance(features, str | os.PathLike) or os.fspath(features) == "-":
        raise ParameterError("--dask: the features are no file, which workers cannot read")
    clusters: list[Cluster] = []

    def measure(level: FeatureLevel) -> MapStatistics:
        if not clusters:
            clusters.append(stack.enter_context(connect(address)))
        return _measure(clusters[0], level, reading)

    return measure


def _measure(cluster: Cluster, level: FeatureLevel, reading: MapReading) -> MapStatistics:
    """One map, in pieces of images that follow one another."""
    place = parse_address(level.stored.name)
    path = path_from_root(place.path)
    files = {path_from_root(name): state for name, state in level.stored.files.items()}
    whole = ImagesTask(
        str(replace(place, path=path)), level.spatial_scale, files,
        cluster.versions, allow_external=external_is_allowed(), reading=reading,
    )  # fmt: skip
    count = max(1, min(level.shape[0], TASKS_A_THREAD * cluster.threads()))

    def digest(images: Sequence[int]) -> list[bytes]:
        pieces = [piece.tolist() for piece in np.array_split(images, count) if len(piece)]
        tasks = [replace(whole, images=piece) for piece in pieces]
        return [found for piece in _gather(cluster, tasks) for found in piece]

    cuts = np.linspace(0, level.shape[0], count + 1).astype(int).tolist()
    tasks = [replace(whole, start=start, stop=stop) for start, stop in pairwise(cuts)]
    return join_statistics(_gather(cluster, tasks), digest)


def _gather(cluster: Cluster, tasks: Sequence[ImagesTask]) -> list[Any]:
    """What the tasks give, in their order."""
    found: list[Any] = [None] * len(tasks)
    run_tasks(cluster, look_at_images, tasks, found.__setitem__, lambda: None)
    return found
