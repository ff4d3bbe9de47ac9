"""Shards of a run: one run alone and written as a part, parts joined into the whole result.

The whole has the bytes that one machine would have written. Parts are read one after the other, a
bounded block at a time, and every row is checked against the checksum that was written with it.
What is held for every RoI of the whole is one byte.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Unpack

import numpy as np

from roicli.core.declaration import check_known, record, settle
from roicli.core.exceptions import InputError, ParameterError
from roicli.core.look_options import MergeOptions
from roicli.core.progress import Progress, no_progress
from roicli.core.record import frozen
from roicli.core.types import IntArray
from roicli.core.vocabulary import Compression
from roicli.operators.interface import OperatorSpec
from roicli.pipeline import provenance
from roicli.pipeline.execute import Result, result_dtype, run_and_write
from roicli.pipeline.fingerprint import fingerprint
from roicli.pipeline.parts import parse_shard, rows_of_shard
from roicli.pipeline.provenance import utc_now
from roicli.pipeline.request import RunRequest
from roicli.pipeline.run import Run, check_sampling
from roicli.storage.address import is_url
from roicli.storage.atomic import OUTPUT_FORMATS
from roicli.storage.formats.hdf5.part import ResultPart, open_part, try_part
from roicli.storage.formats.hdf5.read import find_sources
from roicli.storage.result import ResultFile, ResultWriter, RowSource, check_place, open_result
from roicli.storage.row_file import RowFile, open_scratch

TABLE_ROWS = 1 << 16
ROWS_NAMED = 5
SHARDS_NAMED = 10
NO_PART = "is no part of this result"

PartPath = str | os.PathLike[str]


def run_shard(run: Run, spec: OperatorSpec, output: str | None, request: RunRequest) -> Result:
    """Run the RoIs of one block alone; the result's table and features are the block's."""
    try:
        shard = parse_shard(str(request.shard))
        _check_part_output(output)
        check_whole(run, spec, request.values)
        rows = rows_of_shard(run.inputs.rois.batch_index, shard)
        parameters = describe_whole(run, spec, request)
        shard = replace(
            shard.of_rows(rows),
            attributes=provenance.flatten(parameters),
            fingerprint=shared_fingerprint(run, parameters, request),
        )
        block = replace(run, inputs=run.inputs.take(rows))
    except BaseException:
        run.inputs.close()
        raise
    return run_and_write(block, spec, output, request, shard)


def _check_part_output(output: str | None) -> None:
    ending = "" if output is None or is_url(output) else os.path.splitext(output)[1].lower()
    if OUTPUT_FORMATS.get(ending) != "hdf5":
        raise ParameterError(
            f"a part is written to an .h5 file, found output {output!r}",
            "give -o a name of its own for every part, like -o part-2.h5",
        )


def check_whole(run: Run, spec: OperatorSpec, with_values: bool) -> None:
    """Refuse what does not fit in memory with the rows' numbers in the whole."""
    check_sampling(run, spec)
    if with_values:
        check_sampling(run, replace(run.setting.align, mode="max"))


def describe_whole(run: Run, spec: OperatorSpec, request: RunRequest) -> dict[str, Any]:
    """The parameters of the whole result, as one machine would write them."""
    dtype = result_dtype(run, request)
    return provenance.describe_run(run, spec, dtype, run.result_shape(spec))


def shared_fingerprint(
    run: Run, parameters: Mapping[str, Any], request: RunRequest
) -> dict[str, str]:
    """What all shards of a result are made from."""
    return fingerprint(run, {**parameters, "values": request.values}, False)


@frozen
class Merged:
    """What was joined: from how many parts, the whole's shape (K, C, P_h, P_w) and dtype."""

    output: str
    parts: int
    shape: tuple[int, ...]
    dtype: str


@frozen
class Whole:
    """What the parts are parts of; ``first`` is the part that the others are compared with."""

    first: str
    total: int
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fingerprint: Mapping[str, str]
    attributes: Mapping[str, Any]
    tables: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]


@record(MergeOptions)
class MergeRequest:
    """What was asked of ``merge``."""

    compression: Compression
    force: bool
    progress: Progress


def merge(
    parts: PartPath | Sequence[PartPath],
    output: PartPath,
    **options: Unpack[MergeOptions],
) -> Merged:
    """Join the parts that ``shard`` wrote, or the ones of a virtual result, into one file.

    ``output`` is an ``.h5``, ``.npy`` or ``.zarr`` result, whose datasets have the bytes that one
    run of all RoIs writes. Raises RoicliError: where a RoI is missing or there twice, where the
    parts were made from other inputs or with other parameters, where one is damaged.
    """
    check_known("merge", options, MergeOptions)
    request = settle(MergeRequest, options)
    compression, force = request.compression, request.force
    given = [parts] if isinstance(parts, str | os.PathLike) else list(parts)
    path, paths = os.fspath(output), list_parts([os.fspath(part) for part in given])
    check_place(path, [*(os.fspath(part) for part in given), *paths], force)
    return join(paths, path, compression, force, request.progress)


def join(
    paths: Sequence[str],
    path: str,
    compression: Compression,
    force: bool,
    progress: Progress = no_progress,
    check: Callable[[], None] = lambda: None,
) -> Merged:
    """As ``merge``; ``check`` is called before the result gets its name, and may raise."""
    whole = check_parts(paths)
    beside = sum(
        dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        for dtype, shape in whole.tables.values()
    )
    result = ResultFile(
        path, (whole.total, *whole.row_shape), whole.dtype, compression, force, beside
    )
    with open_result(result) as writer, ExitStack() as stack:
        tables = {} if result.is_npy else _open_tables(whole, path, stack)
        _copy(paths, whole, writer, tables, progress)
        sources: dict[str, RowSource] = {name: rows.read_rows for name, rows in tables.items()}
        writer.finish(sources, {**whole.attributes, "created_utc": utc_now()})
        check()
    return Merged(path, len(paths), result.shape, whole.dtype.name)


def list_parts(given: Sequence[str]) -> list[str]:
    """The parts that are named; a virtual result stands for those that it is made of."""
    sources = find_sources(given[0]) if len(given) == 1 else None
    paths = list(given) if sources is None else sources
    if not paths:
        raise ParameterError("there is no part to join, expected at least one")
    seen = set()
    for path in paths:
        place = os.path.realpath(path)
        if place in seen:
            raise ParameterError(f"{path}: is named twice", "name every part once")
        seen.add(place)
    return paths


def check_parts(paths: Sequence[str]) -> Whole:
    """What the parts are parts of. Raises InputError unless they agree and hold every RoI once."""
    whole: Whole | None = None
    shards, present = [], 0
    for path in paths:
        try_part(path)
        with open_part(path) as part:
            whole = whole or _describe(part)
            _check_agreement(whole, part)
            shards.append(part.shard)
            present += len(part)
    assert whole is not None
    _check_rows(paths, whole.total, present, shards)
    return whole


def _check_rows(paths: Sequence[str], total: int, present: int, shards: Sequence[str]) -> None:
    """Raise InputError unless each of ``total`` rows is in one part; ``present`` are in all parts.

    A damaged part may promise any number of rows. Where some are missing, the first ones that are
    stand below ``present`` and a few more, so no more are marked.
    """
    seen = np.zeros(min(total, present + ROWS_NAMED), bool)
    for path in paths:
        with open_part(path) as part:
            rows = part.read_rows()
        rows = rows[: np.searchsorted(rows, len(seen))]
        if seen[rows].any():
            _refuse_repeated(paths, path, int(rows[seen[rows]][0]))
        seen[rows] = True
    if not seen.all():
        _refuse_missing(np.flatnonzero(~seen), total - present, total, shards)


def _describe(part: ResultPart) -> Whole:
    return Whole(
        part.path, part.total, part.shape[1:], part.dtype, comparable(part.fingerprint),
        part.attributes, part.tables,
    )  # fmt: skip


def comparable(fingerprint: Mapping[str, str]) -> dict[str, str]:
    """What parts must share: a copy of an input on another machine has a time of its own."""
    return {k: v for k, v in fingerprint.items() if not k.startswith("modification time of ")}


def _check_agreement(whole: Whole, part: ResultPart) -> None:
    """Raise InputError where a part is of another whole, naming the first difference."""
    found = comparable(part.fingerprint)
    for name in sorted({*whole.fingerprint, *found}):
        ours, theirs = whole.fingerprint.get(name), found.get(name)
        if ours != theirs:
            raise InputError(
                f"{part.path}: {NO_PART}: {name} is {theirs}, in {whole.first} it is {ours}",
                "join parts of one run, made from the same inputs with the same parameters",
            )
    pairs = (
        ("features", (part.shape[1:], part.dtype), (whole.row_shape, whole.dtype)),
        ("RoIs", part.total, whole.total),
        ("tables", part.tables, whole.tables),
    )
    for name, theirs_held, ours_held in pairs:
        if theirs_held != ours_held:
            raise InputError(
                f"{part.path}: {NO_PART}: {name} are {theirs_held}, in {whole.first} {ours_held}"
            )


def _refuse_repeated(paths: Sequence[str], path: str, row: int) -> None:
    """Say which earlier part holds the row too."""
    for earlier in paths[: list(paths).index(path)]:
        with open_part(earlier) as part:
            if row in part.read_rows():
                raise InputError(f"{path}: RoI {row} is in {earlier} too", "name every block once")
    raise InputError(f"{path}: RoI {row} is in another part too")


def _refuse_missing(rows: IntArray, count: int, total: int, shards: Sequence[str]) -> None:
    """``rows`` are the first of ``count`` that are missing."""
    shown = ", ".join(map(str, rows[:ROWS_NAMED].tolist()))
    more = f" and {count - ROWS_NAMED:,} more" if count > ROWS_NAMED else ""
    raise InputError(
        f"{count:,} of {total:,} RoIs are in no part: RoI {shown}{more}",
        _name_missing_shards(shards),
    )


def _name_missing_shards(shards: Sequence[str]) -> str:
    """Which blocks are not there, where all parts are blocks of one split."""
    counts = {shard.partition("/")[2] for shard in shards}
    count = counts.pop() if len(counts) == 1 else ""
    if not count.isdecimal():
        return "make the parts that are missing"
    there = {int(shard.partition("/")[0]) for shard in shards}
    missing = [f"{i}/{count}" for i in range(1, int(count) + 1) if i not in there]
    if not missing:
        return "make the parts anew"
    more = ", ..." if len(missing) > SHARDS_NAMED else ""
    return f"missing: --shard {', '.join(missing[:SHARDS_NAMED])}{more}"


def _open_tables(whole: Whole, path: str, stack: ExitStack) -> dict[str, RowFile]:
    """A scratch file for each table: parts come in another order than rows."""
    return {
        name: stack.enter_context(open_scratch(path, (whole.total, *shape), dtype))
        for name, (dtype, shape) in whole.tables.items()
    }


def _copy(
    paths: Sequence[str],
    whole: Whole,
    writer: ResultWriter,
    tables: Mapping[str, RowFile],
    progress: Progress,
) -> None:
    """Every part's rows to their places."""
    done = size = 0
    progress(0, whole.total, 0)
    for path in paths:
        with open_part(path) as part:
            part.check_tables()
            rows = part.read_rows()
            for start, stop, block in part.read_features():
                writer.write_rows(rows[start:stop], block)
                done, size = done + stop - start, size + block.nbytes
                progress(done, whole.total, size)
            for name, scratch in tables.items():
                for start, stop in _steps(len(part)):
                    scratch.write_rows(rows[start:stop], part.read_table(name, start, stop))


def _steps(count: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + TABLE_ROWS, count)) for start in range(0, count, TABLE_ROWS))
