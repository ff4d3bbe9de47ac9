"""One block of RoIs as a task: addresses and row numbers in, a part on shared storage out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import replace
from typing import Any

from roicli.core.exceptions import InputError, OutputError
from roicli.core.progress import no_progress
from roicli.core.record import frozen
from roicli.core.types import FloatArray
from roicli.error_table.columns import VALUE_COLUMNS
from roicli.pipeline.cluster.connection import name_of_worker
from roicli.pipeline.cluster.tasks import Failure, Success, as_outcome
from roicli.pipeline.execute import run_and_write, run_into
from roicli.pipeline.request import RunRequest
from roicli.pipeline.run import Run, build_value_measurers, open_run
from roicli.pipeline.stream import run_operator
from roicli.pipeline.verify import Verification
from roicli.storage.address import path_from_root
from roicli.storage.file_state import FileState
from roicli.storage.formats.hdf5.part import check_part, open_part
from roicli.storage.formats.zarr.publish import open_place
from roicli.storage.formats.zarr.shards import check_store_part, open_store_part
from roicli.storage.formats.zarr.write import join
from roicli.storage.plan import is_waited_for
from roicli.storage.result import NoWriter, ResultWriter
from roicli.storage.shard import Shard
from roicli.storage.shared_place import Folder, SharedPlace


@frozen
class Destination:
    """Where the parts of a run go: the folder or URL ``place``, from the root of the file system.

    A task stops where the plan at ``plan_key`` is gone, or has another ``token``. With ``metadata``
    the place is a Zarr store, and its parts are chunks.
    """

    place: str
    plan_key: str
    token: str
    metadata: Mapping[str, bytes] | None = None

    def is_waited_for(self) -> bool:
        """Whether somebody waits for these parts."""
        return is_waited_for(self.open(), self.plan_key, self.token)

    def check_waited_for(self) -> None:
        """Raise OutputError where nobody waits for these parts any more, or ever did here."""
        if not self.is_waited_for():
            raise OutputError(
                f"{self.place}: {name_of_worker()} does not find there what the run began with",
                "give -o a place that every worker sees alike",
            )

    def open(self) -> SharedPlace:
        """The place itself."""
        return Folder(self.place) if self.metadata is None else open_place(self.place)


@frozen
class Job:
    """What all blocks of a run share: where the inputs are, and how they are run.

    ``features`` and ``rois`` are addresses from the root of the file system; ``request`` is
    what every block is asked. Without a ``destination`` nothing is written.
    """

    operator: str
    features: str
    rois: str
    request: RunRequest
    files: Mapping[str, FileState]
    versions: dict[str, str]
    destination: Destination | None = None


@frozen
class BlockTask:
    """One shard of a job."""

    job: Job
    shard: Shard


@frozen
class BlockDone:
    """What a task gives back: the value columns (k,) that were measured, by name, what was verified
    of the block, and whether the part was there already.
    """

    values: Mapping[str, FloatArray]
    verification: Verification | None = None
    kept: bool = False


def run_block(task: BlockTask) -> Success[BlockDone] | Failure:
    """Run a block, or find that its part is there and whole."""
    return as_outcome(lambda: _find_kept(task) or _run(task), task.job.versions)


def _find_kept(task: BlockTask) -> BlockDone | None:
    """The part that an earlier run or a lost worker finished; a damaged one is made again."""
    where = task.job.destination
    if where is None:
        return None
    try:
        if where.metadata is None:
            return BlockDone(_check_file(task, where), kept=True)
        return BlockDone(check_store_part(where.open(), task.shard), kept=True)
    except InputError:
        return None


def _check_file(task: BlockTask, where: Destination) -> Mapping[str, FloatArray]:
    path = os.path.join(where.place, task.shard.key)
    check_part(path, task.shard)
    with open_part(path) as part:
        table = part.read_table("quantization_error", 0, len(part))
    names = table.dtype.names or ()
    return {c.name: table[c.name].copy() for c in VALUE_COLUMNS if c.name in names}


def _run(task: BlockTask) -> BlockDone:
    job, rows, where = task.job, task.shard.rows, task.job.destination
    if where is not None:
        where.check_waited_for()
    run = open_run(job.operator, job.features, job.rois, job.request, rows)
    try:
        _check_files(run, job.files)
    except BaseException:
        run.inputs.close()
        raise
    verification = None
    if where is None:
        _measure(run)
    elif where.metadata is None:
        verification = _write_file(run, task, where)
    else:
        verification = _write_chunks(run, task, where)
    return BlockDone(run.value_columns, verification)


def _check_files(run: Run, expected: Mapping[str, FileState]) -> None:
    """The files are still those that the run began with."""
    found = {path_from_root(path): state for path, state in run.inputs.files.items()}
    for path, state in expected.items():
        if found.get(path) != state:
            raise InputError(
                f"{path}: is not the file that the run began with, seen from {name_of_worker()}",
                "give addresses on storage that every worker sees alike",
            )


def _measure(run: Run) -> None:
    """The value columns alone."""
    with closing(run.inputs):
        measurers = build_value_measurers(run)
        run_operator(
            run.pyramid, run.inputs.rois, run.inputs.map_of_roi, None, run.engine, NoWriter(),
            measurers, no_progress,
        )  # fmt: skip
        run.inputs.check_unchanged()


def _write_file(run: Run, task: BlockTask, where: Destination) -> Verification | None:
    """Write under a name of this attempt's own, then rename: two attempts never meet."""
    mine = os.path.join(where.place, f".{os.urandom(6).hex()}.{task.shard.key}")
    with _removed_on_failure(mine):
        result = run_and_write(run, run.spec, mine, _request(task, where), task.shard)
        os.replace(mine, os.path.join(where.place, task.shard.key))
    return result.verification


def _write_chunks(run: Run, task: BlockTask, where: Destination) -> Verification | None:
    """Put the chunks that are this block's alone; two attempts put the same bytes."""
    assert where.metadata is not None
    draft = join(open_place(where.place), where.metadata)

    def open_sink(parameters: Mapping[str, Any]) -> AbstractContextManager[ResultWriter]:
        # The columns are there, and filled until the record is written.
        return open_store_part(
            draft, task.shard, run.value_columns, where.check_waited_for, where.is_waited_for
        )

    return run_into(open_sink, run, run.spec, None, _request(task, where)).verification


def _request(task: BlockTask, where: Destination) -> RunRequest:
    def progress(done: int, total: int, size: int) -> None:
        where.check_waited_for()

    return replace(task.job.request, progress=progress)


@contextmanager
def _removed_on_failure(path: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        raise
