"""One block of RoIs as a task on a worker: addresses and row numbers in, a part on the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from roicli.cluster.outcome import Failure, Success, as_outcome
from roicli.cluster.worker import name_of_worker
from roicli.columns import VALUE_COLUMNS
from roicli.datatypes import FloatArray, IntArray
from roicli.exceptions import InputError, OutputError
from roicli.opened_run import Run, build_value_measurers, open_run
from roicli.pipeline import run_operator
from roicli.running import no_progress, run_and_write
from roicli.storage.file_state import FileState
from roicli.storage.part_writer import PartLabel
from roicli.storage.result_file import NoWriter
from roicli.storage.result_part import check_part, open_part
from roicli.verification import Verification


@dataclass(frozen=True)
class Job:
    """What all blocks of a run share: where the inputs are, and how they are run.

    ``features`` and ``rois`` are addresses from the root of the file system; ``options`` are those
    of the library's call; ``attributes`` and ``fingerprint`` those of every part. ``plan_path`` is
    None where no parts are written; a task stops where the file is gone.
    """

    operator: str
    features: str
    rois: str
    options: Mapping[str, Any]
    files: Mapping[str, FileState]
    versions: dict[str, str]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    plan_path: str | None = None


@dataclass(frozen=True)
class BlockTask:
    """Rows of one block: ``first`` to ``stop``, or ``scattered`` (k,) where they are not together.

    ``path`` is where the part goes.
    """

    job: Job
    shard: str
    first: int
    stop: int
    scattered: IntArray | None = None
    path: str | None = None

    @property
    def rows(self) -> IntArray:
        """(k,) row numbers, ascending."""
        if self.scattered is not None:
            return self.scattered
        return np.arange(self.first, self.stop, dtype=np.int64)


@dataclass(frozen=True)
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
    if task.path is None or not os.path.exists(task.path):
        return None
    try:
        check_part(task.path, task.rows, task.job.fingerprint)
        with open_part(task.path) as part:
            table = part.read_table("quantization_error", 0, len(part))
    except InputError:
        return None
    names = table.dtype.names or ()
    values = {c.name: table[c.name].copy() for c in VALUE_COLUMNS if c.name in names}
    return BlockDone(values, kept=True)


def _run(task: BlockTask) -> BlockDone:
    job, rows = task.job, task.rows
    run = open_run(job.operator, job.features, job.rois, job.options, rows)
    try:
        _check_files(run, job.files)
    except BaseException:
        run.inputs.close()
        raise
    verification = None
    if task.path is None:
        _measure(run)
    else:
        verification = _write_part(run, task, rows)
    return BlockDone(run.value_columns, verification)


def _check_files(run: Run, expected: Mapping[str, FileState]) -> None:
    """The files are still those that the run began with."""
    for path, state in expected.items():
        if run.inputs.files.get(path) != state:
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


def _write_part(run: Run, task: BlockTask, rows: IntArray) -> Verification | None:
    """Write under a name of this attempt's own, then rename: two attempts never meet."""
    assert task.path is not None
    folder, name = os.path.split(task.path)
    mine = os.path.join(folder, f".{os.urandom(6).hex()}.{name}")
    label = PartLabel(task.shard, rows, task.job.attributes, task.job.fingerprint)
    spec = run.setting.pool if task.job.operator == "pool" else run.setting.align
    options: Any = {**task.job.options, "progress": _stop_where_gone(task.job.plan_path)}
    with _removed_on_failure(mine):
        result = run_and_write(run, spec, mine, options, label)
        os.replace(mine, task.path)
    return result.verification


@contextmanager
def _removed_on_failure(path: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        raise


def _stop_where_gone(plan_path: str | None) -> Any:
    def progress(done: int, total: int, size: int) -> None:
        if plan_path is not None and not os.path.exists(plan_path):
            raise OutputError(f"{plan_path}: the run was given up")

    return progress
