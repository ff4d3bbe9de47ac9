"""The folder that parts grow in, hidden beside the result until every one of them is there.

``.NAME.parts`` holds the plan and the parts that are finished. Then they stand in ``NAME.parts``,
beside those of an older result, and the rename of the virtual file decides which of them are read;
the others go. A Zarr store grows in such a folder too, and takes its final name.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Collection, Iterator

from roicli.core.exceptions import InputError, OutputError
from roicli.core.system import flush_path
from roicli.storage.address import parts_folder
from roicli.storage.atomic import PartFile, as_output_errors
from roicli.storage.formats.hdf5.read import find_sources
from roicli.storage.plan import Plan, keep_parts
from roicli.storage.shared_place import Folder

# Parts had no token in their names before, and may yet stand under an old result.
PART_NAME = r"\d{4,}(-[0-9a-f]{16})?\.h5"


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
    with as_output_errors(target), PartFile(final) as lock:
        lock.clear()
        _take_parts_back(target)
        if os.path.lexists(final) and not force:
            raise OutputError(f"{final}: exists already", "add --force to replace it")
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
        mode = 0o700 if os.path.lexists(target) else 0o777
        plan = Plan(target, Folder(growing_folder(target), mode))
        with keep_parts(plan, keep):
            yield plan
        plan.place.remove_all()


@contextlib.contextmanager
def publish_parts(plan: Plan) -> Iterator[None]:
    """Put the parts where the result that the block names looks for them; after it older ones go.

    Where the block fails and nothing has the name, they are with their plan again.
    """
    growing, final = plan.place.path, parts_folder(plan.target)
    names = {plan.part_name(number) for number in plan.finished()}
    try:
        if not os.path.isdir(final):
            _make_folder(final, plan.target)
        for name in sorted(names):
            os.rename(os.path.join(growing, name), os.path.join(final, name))
        flush_path(final)
        yield
    except BaseException:
        _take_parts_back(plan.target)
        raise
    remove_old_parts(plan.target, names)


def _make_folder(final: str, target: str) -> None:
    """The folder is open to those who may read the file that is replaced, or as usual."""
    os.mkdir(final)
    if os.path.exists(target):
        mode = stat.S_IMODE(os.stat(target).st_mode) & 0o777
        os.chmod(final, mode | (mode & 0o444) >> 2 | 0o700)


def remove_old_parts(target: str, kept: Collection[str] = ()) -> None:
    """Remove the parts of ``target`` but those that are ``kept``, and the folder with the last."""
    final = parts_folder(target)
    if not os.path.isdir(final):
        return
    for name in os.listdir(final):
        if re.fullmatch(PART_NAME, name) and name not in kept:
            os.unlink(os.path.join(final, name))
    with contextlib.suppress(OSError):  # what else somebody put there stays
        os.rmdir(final)


def _take_parts_back(target: str) -> None:
    """Put parts that wait for their result back to their plan, from where ``publish_parts`` put
    them; a plan whose result has its name goes. A run may have been killed in between.
    """
    place, final = Folder(growing_folder(target)), parts_folder(target)
    token = Plan(target, place).read_token()
    if not token or not os.path.isdir(final):
        return
    waiting = [name for name in os.listdir(final) if name.endswith(f"-{token}.h5")]
    if waiting and _stands_on(target, waiting):
        place.remove_all()
        return
    for name in waiting:
        os.rename(os.path.join(final, name), os.path.join(place.path, name))
    with contextlib.suppress(OSError):  # parts of an older result stay
        os.rmdir(final)


def _stands_on(target: str, names: Collection[str]) -> bool:
    """Whether the file is a virtual result over some of these parts."""
    try:
        return any(os.path.basename(path) in names for path in find_sources(target) or ())
    except InputError:
        return False
