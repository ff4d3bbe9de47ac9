"""The whole result of a run whose blocks many machines write: how it is cut and put together.

An HDF5 result stands on the parts as a virtual file; an .npy file is joined from them. A Zarr store
is filled by the machines themselves; only its tables and metadata are written here.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from roicli.core.record import frozen
from roicli.core.types import IntArray
from roicli.error_table.columns import record_dtype
from roicli.operators.interface import OperatorSpec
from roicli.pipeline import provenance
from roicli.pipeline.cluster.task import Destination
from roicli.pipeline.execute import carried_datasets, stored_rois_dtype, tables_beside
from roicli.pipeline.memory import find_shard_bytes
from roicli.pipeline.parts import cut_at_multiples, split_rows
from roicli.pipeline.request import RunRequest
from roicli.pipeline.run import Run
from roicli.pipeline.shards import describe_whole, join, shared_fingerprint
from roicli.storage.address import is_url, names_a_store
from roicli.storage.atomic import OUTPUT_FORMATS, check_disk, replace_atomically
from roicli.storage.formats.hdf5.write import write_virtual
from roicli.storage.formats.zarr import write as draft
from roicli.storage.formats.zarr.publish import open_place
from roicli.storage.formats.zarr.shards import open_store_plan, publish_store
from roicli.storage.parts_folder import open_parts, publish_parts, remove_old_parts
from roicli.storage.plan import Plan
from roicli.storage.shard import Shard

logger = logging.getLogger("roicli")

# Enough blocks that no worker waits long for the last one, and none that is lost costs much.
BLOCKS_A_THREAD = 4
LARGEST_PART_BYTES = 512 << 20
# A virtual dataset takes 32 bytes and some microseconds for each piece of neighbouring rows.
MOST_RUNS = 2_000_000


@frozen
class Whole:
    """What the result is of: the opened run and its request, the parameters of all of it, the
    attributes that it has, and the fingerprint that its parts share.
    """

    run: Run
    request: RunRequest
    parameters: dict[str, Any]
    attributes: Mapping[str, Any]
    fingerprint: Mapping[str, str]

    @property
    def shape(self) -> tuple[int, ...]:
        """(K, C, P_h, P_w)."""
        return tuple(self.parameters["result_shape"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The features' dtype."""
        return np.dtype(str(self.parameters["dtype"]))

    @property
    def row_bytes(self) -> int:
        """What a RoI's features take."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def force(self) -> bool:
        """Whether what is there may be replaced."""
        return self.request.force

    @property
    def keep(self) -> bool:
        """Whether an interruption keeps what is finished."""
        return self.request.resume

    def count_blocks(self, threads: int) -> int:
        """Several for every thread, and none whose part is larger than it should be."""
        total = self.shape[0] * self.row_bytes
        return count_blocks(self.shape[0], threads, math.ceil(total / LARGEST_PART_BYTES))

    def make_shards(self, blocks: Sequence[IntArray], plan: Plan) -> list[Shard]:
        """The shards of the blocks' rows."""
        count = len(blocks)
        return [
            Shard(
                number, count, key=plan.part_key(number), attributes=self.attributes,
                fingerprint=self.fingerprint,
            ).of_rows(rows)
            for number, rows in enumerate(blocks, 1)
        ]  # fmt: skip


def count_blocks(rois: int, threads: int, least: int = 1) -> int:
    """Several blocks for every thread, at least so many, and none without a RoI."""
    return max(1, min(max(BLOCKS_A_THREAD * threads, least), rois))


class WholeResult(Protocol):
    """A result in the making. ``target`` is its name."""

    target: str

    def begin(self, threads: int) -> list[Shard]:
        """Make room for the parts, or take up what is kept; gives every shard.

        Those without a RoI stay, so that numbers do not move. Raises OutputError.
        """

    def destination(self) -> Destination:
        """Where the parts go."""

    def publish(self, shards: Sequence[Shard], check: Callable[[], None]) -> None:
        """Every part is there: give the result its name, when ``check`` has not raised."""


@contextmanager
def open_whole(
    run: Run, spec: OperatorSpec, output: str, request: RunRequest
) -> Iterator[tuple[Whole, WholeResult]]:
    """The result at ``output``, this run's alone; where the block fails the parts go, or are kept.

    Raises OutputError.
    """
    parameters = describe_whole(run, spec, request)
    attributes = provenance.flatten(parameters)
    shared = shared_fingerprint(run, parameters, request)
    whole = Whole(run, request, parameters, attributes, shared)
    if names_a_store(output):
        with open_store_plan(output, whole.keep, whole.force) as plan:
            yield whole, StoreResult(whole, plan)
        return
    with open_parts(output, whole.keep, whole.force) as plan:
        yield whole, PartsResult(whole, plan)


class PartsResult:
    """An HDF5 file that stands on its parts, or a file that they are joined into.

    It is joined where it is an .npy file, without RoIs, and where the RoIs are strewn over the
    parts so finely that a virtual dataset would take long to open.
    """

    def __init__(self, whole: Whole, plan: Plan) -> None:
        self._whole, self._plan, self.target = whole, plan, plan.target

    def begin(self, threads: int) -> list[Shard]:
        """Blocks by image, whatever the RoIs' order is."""
        whole = self._whole
        self._plan.begin(whole.count_blocks(threads), whole.fingerprint, whole.keep, whole.force)
        blocks = split_rows(whole.run.inputs.rois.batch_index, self._plan.count)
        return whole.make_shards(blocks, self._plan)

    def destination(self) -> Destination:
        """The folder of parts."""
        plan = self._plan
        return Destination(os.path.abspath(plan.place.path), plan.key, plan.token)

    def publish(self, shards: Sequence[Shard], check: Callable[[], None]) -> None:
        """Write the virtual file, or join the parts."""
        whole, plan = self._whole, self._plan
        is_hdf5 = OUTPUT_FORMATS[os.path.splitext(self.target)[1].lower()] == "hdf5"
        if (
            not is_hdf5
            or whole.shape[0] == 0
            or count_runs([shard.rows for shard in shards]) > MOST_RUNS
        ):
            paths = [os.path.join(plan.place.path, shard.key) for shard in shards]
            compression = whole.request.compression
            join(paths, self.target, compression, whole.force, check=check)
            remove_old_parts(self.target)
            return
        count = whole.shape[0]
        datasets: dict[str, Any] = {
            "roi_features": (whole.shape, whole.dtype),
            "rois": ((count, whole.run.inputs.rois.row_width), stored_rois_dtype(whole.run)),
            "quantization_error": ((count,), record_dtype(whole.run.error_table().measured)),
        }
        for name, column in carried_datasets(whole.run.inputs).items():
            datasets[name] = ((count, *column.values.shape[1:]), column.dtype)
        filled = [shard for shard in shards if len(shard)]
        with publish_parts(plan), replace_atomically(self.target, whole.force) as temporary:
            write_virtual(temporary, self.target, datasets, filled, whole.attributes)
            check()


def count_runs(blocks: Sequence[IntArray]) -> int:
    """How many pieces of neighbouring rows the blocks have together."""
    return sum(1 + int(np.count_nonzero(np.diff(rows) != 1)) for rows in blocks)


class StoreResult:
    """A Zarr store, in a folder or at a URL, whose chunks the workers write."""

    def __init__(self, whole: Whole, plan: Plan) -> None:
        self._whole, self._plan, self.target = whole, plan, plan.target
        self._draft: draft.StoreDraft | None = None

    def begin(self, threads: int) -> list[Shard]:
        """Blocks of whole chunks, which follow the RoIs' order: no two write one chunk."""
        whole, plan = self._whole, self._plan
        compression = whole.request.compression
        if not is_url(self.target):
            check_disk(self.target, os.path.dirname(self.target), whole.shape[0] * whole.row_bytes)
        shard_bytes = find_shard_bytes(whole.request.max_memory)
        made_from = {
            **whole.fingerprint, "compression": compression, "bytes of a shard": str(shard_bytes),
        }  # fmt: skip
        plan.begin(whole.count_blocks(threads), made_from, whole.keep, whole.force)
        self._draft = draft.begin(
            open_place(plan.place.path), self.target, whole.shape, whole.dtype, compression,
            shard_bytes,
        )  # fmt: skip
        cuts = cut_at_multiples(whole.shape[0], plan.count, self._draft.chunk_rows)
        self._warn_of_images_read_again(cuts)
        return whole.make_shards([np.arange(start, stop) for start, stop in cuts], plan)

    def _warn_of_images_read_again(self, cuts: Sequence[tuple[int, int]]) -> None:
        """A block reads the images of its rows, and where RoIs are in no order these are many."""
        images = self._whole.run.inputs.rois.batch_index
        if np.all(images[1:] >= images[:-1]):
            return
        reads = sum(len(np.unique(images[start:stop])) for start, stop in cuts)
        needed = len(np.unique(images))
        if reads > 2 * needed + len(cuts):
            logger.info(
                f"the RoIs are not in the images' order: {len(cuts):,} blocks read {reads:,} "
                f"images, {needed:,} in order"
            )

    def destination(self) -> Destination:
        """The store, with what it takes to write chunks of it."""
        assert self._draft is not None
        plan, path = self._plan, self._plan.place.path
        place = path if is_url(path) else os.path.abspath(path)
        return Destination(place, plan.key, plan.token, self._draft.metadata)

    def publish(self, shards: Sequence[Shard], check: Callable[[], None]) -> None:
        """Write the tables, the attributes and at last the metadata."""
        assert self._draft is not None
        tables = tables_beside(self._whole.run, self._whole.run.error_table())
        publish_store(
            self._plan, self._draft, tables, self._whole.attributes, self._whole.force, check
        )
