"""The plan of a run whose parts many machines write, and which of them are finished.

It stands beside the parts. Taking it away is what stops tasks that nobody waits for.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

from roicli.core.exceptions import InputError, OutputError, ParameterError, first_line
from roicli.storage.resume import check_same_run
from roicli.storage.shared_place import SharedPlace

logger = logging.getLogger("roicli")

PLAN = "plan.json"
PLAN_VERSION = 3  # 2: parts without the token in their names


class Plan:
    """Parts 1 to ``count`` of the result ``target``; ``begun`` is whether they are this run's, or
    those that it goes on with.

    Plan and parts are keys below ``prefix`` in ``place``. ``token`` tells this run's plan and parts
    from those of another one, which came to the same place before or later.
    """

    def __init__(
        self, target: str, place: SharedPlace, prefix: str = "", ending: str = ".h5"
    ) -> None:
        self.target, self.place = target, place
        self._prefix, self._ending = prefix, ending
        self.count, self.begun, self.token = 0, False, ""

    @property
    def key(self) -> str:
        """Where the plan stands."""
        return f"{self._prefix}{PLAN}"

    def part_name(self, number: int) -> str:
        """The name of part ``number``, from 1; no other run's. Names sort as numbers do."""
        token = f"-{self.token}" if self.token else ""
        return f"{number:0{max(4, len(str(self.count)))}d}{token}{self._ending}"

    def part_key(self, number: int) -> str:
        """Where part ``number`` stands."""
        return f"{self._prefix}{self.part_name(number)}"

    def finished(self) -> list[int]:
        """The parts that are there."""
        there = self.place.list_keys(self._prefix)
        return [n for n in range(1, self.count + 1) if self.part_name(n) in there]

    def begin(self, count: int, fingerprint: Mapping[str, str], keep: bool, force: bool) -> None:
        """Make the place, or go on with what an interrupted run of the same kept in it.

        Raises OutputError where that run was another one, and where there is something kept and
        neither ``keep`` nor ``force`` says what to do with it.
        """
        kept = self._read()
        if kept is not None and kept.get("keep"):
            self.count, self.token = int(kept["count"]), str(kept["token"])
            if keep:
                check_same_run(self.target, kept["fingerprint"], fingerprint)
                self.begun = True
                return
            if self.finished() and not force:
                raise OutputError(
                    f"{self.target}: an interrupted run has kept {len(self.finished()):,} of "
                    f"{self.count:,} parts",
                    "add --resume to go on with them, or --force to start anew",
                )
        if not (self.place.is_locked or force) and self.place.list_keys(""):
            raise OutputError(
                f"{self.target}: another run is writing it, or was killed",
                "wait for that run, or add --force to start anew",
            )
        self.place.make()
        self.begun = True
        self.count, self.token = count, os.urandom(8).hex()
        plan = {
            "plan": PLAN_VERSION, "keep": keep, "count": count, "token": self.token,
            "fingerprint": dict(fingerprint),
        }  # fmt: skip
        self.place.put(self.key, json.dumps(plan).encode())

    def read_token(self) -> str:
        """The token of the run that made the plan that is there; empty where there is none."""
        return str((self._read() or {}).get("token", ""))

    def _read(self) -> dict[str, Any] | None:
        found = _parse(self.place.read(self.key))
        try:
            if found is None or found["plan"] != PLAN_VERSION or int(found["count"]) < 1:
                return None
            return found if found["token"] and dict(found["fingerprint"]) else None
        except (ValueError, TypeError, KeyError):
            return None


def _parse(data: bytes | None) -> dict[str, Any] | None:
    """What a plan says; None where there is none that can be read."""
    try:
        found = json.loads(data or b"")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def is_waited_for(place: SharedPlace, key: str, token: str) -> bool:
    """Whether the plan is still there, and no other run's: else nobody waits for its parts.

    Storage that is away is an OSError, or an OutputError that comes of one: it may come back.
    """
    plan = _parse(place.read(key))
    return plan is not None and plan.get("token") == token


@contextlib.contextmanager
def keep_parts(plan: Plan, keep: bool) -> Iterator[Plan]:
    """Where the block is interrupted the parts go, or with ``keep`` stay for a run that goes on;
    what a wrong input or parameter ends is not kept.
    """
    try:
        yield plan
    except BaseException as error:
        done = _count_finished(plan)
        if plan.begun and keep and done and _is_worth_keeping(error):
            logger.info(
                f"{plan.place.path} keeps {done:,} of {plan.count:,} parts; the same command "
                "goes on from there"
            )
        elif plan.begun:
            _remove_all(plan.place)
        raise


def _remove_all(place: SharedPlace) -> None:
    """Remove what the run made; where that fails, say so: the error to tell is the first one."""
    try:
        place.remove_all()
    except Exception as error:  # a URL's own kinds
        logger.warning(
            f"{place.path} could not be removed: {first_line(error)}; give --force next time"
        )


def _is_worth_keeping(error: BaseException) -> bool:
    """A wrong input or parameter will be as wrong again, unless its storage was away."""
    wrong = isinstance(error, InputError | ParameterError)
    return not wrong or isinstance(error.__cause__, OSError)


def _count_finished(plan: Plan) -> int:
    # What cannot be listed cannot be promised either.
    with contextlib.suppress(Exception):
        return len(plan.finished())
    return 0
