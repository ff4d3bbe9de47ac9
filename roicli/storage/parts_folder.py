"""The folder that parts grow in, hidden beside the result until every one of them is there.

``.NAME.parts`` holds the plan and the parts that are finished. It becomes ``NAME.parts`` when the
virtual result over them is written. A Zarr store grows in it too, and takes its final name.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from roicli.core.exceptions import OutputError
from roicli.storage.formats.hdf5.virtual_sources import parts_folder
from roicli.storage.output import as_output_errors
from roicli.storage.part_file import PartFile
from roicli.storage.plan import Plan, keep_parts
from roicli.storage.shared_place import Folder


def growing_folder(target: str) -> str:
    """Where the parts of ``target`` stand while the run goes on."""
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{name}.parts")


@contextlib.contextmanager
def locked_parts(target: str, force: bool) -> Iterator[None]:
    """Nobody else writes parts of ``target`` meanwhile.

    Raises OutputError, also where a run on one machine has kept rows that would be lost.
    """
    final = parts_folder(target)
    if os.path.lexists(final) and not force:
        raise OutputError(f"{final}: exists already", "add --force to replace it")
    with as_output_errors(target), PartFile(final) as lock:
        lock.clear()
        _refuse_kept_rows(target, force)
        yield


def _refuse_kept_rows(target: str, force: bool) -> None:
    with PartFile(target) as part:
        if os.path.exists(part.companion("journal")) and not force:
            raise OutputError(
                f"{target}: an interrupted run on one machine has kept its rows",
                "go on with it without --dask, or add --force to start anew",
            )


@contextlib.contextmanager
def open_parts(target: str, keep: bool, force: bool) -> Iterator[Plan]:
    """The plan of ``target``, this run's alone; ``begin`` makes the folder of its parts.

    Where the block is interrupted the parts go, or stay with ``keep``. Raises OutputError.
    """
    with locked_parts(target, force):
        plan = Plan(target, Folder(growing_folder(target)))
        with keep_parts(plan, keep):
            yield plan
        plan.place.remove_all()


@contextlib.contextmanager
def publish_parts(plan: Plan) -> Iterator[None]:
    """Give the folder its final name; it has its old one again where the block fails."""
    growing, final = plan.place.path, parts_folder(plan.target)
    aside = f"{growing}.old"
    # What tasks that were killed left half written.
    for name in plan.place.list_keys(""):
        if name.startswith("."):
            plan.place.remove(name)
    Folder(aside).remove_all()
    with contextlib.suppress(FileNotFoundError):
        os.rename(final, aside)
    os.rename(growing, final)
    try:
        Folder(final).remove(plan.key)
        yield
    except BaseException:
        os.rename(final, growing)
        with contextlib.suppress(FileNotFoundError):
            os.rename(aside, final)
        raise
    Folder(aside).remove_all()
