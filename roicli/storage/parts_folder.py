"""The folder that parts grow in, hidden beside the result until every one of them is there.

``.NAME.parts`` holds the plan and the parts that are finished. It becomes ``NAME.parts`` when the
result over them is written. Renaming it away is also what stops tasks that nobody waits for.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from roicli.exceptions import InputError, OutputError, ParameterError
from roicli.storage.output import as_output_errors
from roicli.storage.part_file import PartFile
from roicli.storage.virtual_sources import parts_folder

PLAN = "plan.json"
PLAN_VERSION = 1


class PartsFolder:
    """The folder of one run. ``path`` holds parts 1 to ``count``, as they are finished; ``begun``
    is whether they are this run's, or those that it goes on with.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        folder, name = os.path.split(target)
        self.path = os.path.join(folder, f".{name}.parts")
        self.count, self.begun = 0, False

    @property
    def plan_path(self) -> str:
        """The file whose disappearance says that nobody waits for these parts any more."""
        return os.path.join(self.path, PLAN)

    def part_name(self, number: int) -> str:
        """The file name of part ``number``, from 1; names sort as numbers do."""
        return f"{number:0{max(4, len(str(self.count)))}d}.h5"

    def part_path(self, number: int) -> str:
        """Where part ``number`` stands while the run goes on."""
        return os.path.join(self.path, self.part_name(number))

    def finished(self) -> list[int]:
        """The parts that are there."""
        there = set(os.listdir(self.path))
        return [n for n in range(1, self.count + 1) if self.part_name(n) in there]

    def begin(self, count: int, fingerprint: Mapping[str, str], keep: bool, force: bool) -> None:
        """Make the folder, or go on with what an interrupted run of the same kept in it.

        Raises OutputError where that run was another one, and where there is something kept and
        neither ``keep`` nor ``force`` says what to do with it.
        """
        kept = self._read_plan()
        if kept is not None and kept.get("keep"):
            self.count = int(kept["count"])
            if keep:
                self._check_same(kept["fingerprint"], fingerprint)
                self.begun = True
                return
            if self.finished() and not force:
                raise OutputError(
                    f"{self.target}: an interrupted run has kept {len(self.finished()):,} of "
                    f"{self.count:,} parts",
                    "add --resume to go on with them, or --force to start anew",
                )
        remove_folder(self.path)
        self.count = count
        os.mkdir(self.path)
        self.begun = True
        plan = {
            "plan": PLAN_VERSION, "keep": keep, "count": count, "fingerprint": dict(fingerprint),
        }  # fmt: skip
        with open(self.plan_path, "w", encoding="utf-8") as stream:
            json.dump(plan, stream)

    def _read_plan(self) -> dict[str, Any] | None:
        try:
            with open(self.plan_path, encoding="utf-8") as stream:
                found = json.load(stream)
            usable = found["plan"] == PLAN_VERSION and int(found["count"]) > 0
            return dict(found) if usable and dict(found["fingerprint"]) else None
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _check_same(self, before: Mapping[str, str], now: Mapping[str, str]) -> None:
        for name in sorted({*before, *now}):
            if before.get(name) != now.get(name):
                raise OutputError(
                    f"{self.target}: the interrupted run differs: {name} was {before.get(name)}, "
                    f"is {now.get(name)}",
                    "run it as before, or start anew with --force and without --resume",
                )

    def remove_strays(self) -> None:
        """Remove what tasks that were killed left half written."""
        for name in os.listdir(self.path):
            if name.startswith("."):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.path, name))

    @contextlib.contextmanager
    def publish(self) -> Iterator[None]:
        """Give the folder its final name; it has its old one again where the block fails."""
        final, aside = parts_folder(self.target), f"{self.path}.old"
        self.remove_strays()
        remove_folder(aside)
        with contextlib.suppress(FileNotFoundError):
            os.rename(final, aside)
        os.rename(self.path, final)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(final, PLAN))
            yield
        except BaseException:
            os.rename(final, self.path)
            with contextlib.suppress(FileNotFoundError):
                os.rename(aside, final)
            raise
        remove_folder(aside)


def remove_folder(path: str) -> None:
    """Remove a folder of parts. It is renamed first, so that nobody writes into half of it."""
    away = f"{path}.{os.urandom(4).hex()}.gone"
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, away)
        shutil.rmtree(away, ignore_errors=True)


@contextlib.contextmanager
def open_parts(
    target: str, keep: bool, force: bool, note: Callable[[str], None]
) -> Iterator[PartsFolder]:
    """The folder of parts for ``target``, this run's alone; ``begin`` makes it.

    Where the block is interrupted the parts go, or with ``keep`` stay for a run that goes on; what
    a wrong input or parameter ends is not kept. Raises OutputError.
    """
    final = parts_folder(target)
    if os.path.lexists(final) and not force:
        raise OutputError(f"{final}: exists already", "add --force to replace it")
    folder = PartsFolder(target)
    with as_output_errors(target), PartFile(final) as lock:
        lock.clear()
        _refuse_kept_rows(target, force)
        try:
            yield folder
        except BaseException as error:
            done = _count_finished(folder)
            if folder.begun and keep and done and _is_worth_keeping(error):
                note(
                    f"{folder.path} keeps {done:,} of {folder.count:,} parts; the same command "
                    "goes on from there"
                )
            elif folder.begun:
                remove_folder(folder.path)
            raise
        remove_folder(folder.path)


def _is_worth_keeping(error: BaseException) -> bool:
    """A wrong input or parameter will be as wrong again, unless its storage was away."""
    wrong = isinstance(error, InputError | ParameterError)
    return not wrong or isinstance(error.__cause__, OSError)


def _count_finished(folder: PartsFolder) -> int:
    with contextlib.suppress(OSError):
        return len(folder.finished())
    return 0


def _refuse_kept_rows(target: str, force: bool) -> None:
    """Rows that a run on one machine kept are not lost without a word."""
    with PartFile(target) as part:
        if os.path.exists(part.companion("journal")) and not force:
            raise OutputError(
                f"{target}: an interrupted run on one machine has kept its rows",
                "go on with it without --dask, or add --force to start anew",
            )
