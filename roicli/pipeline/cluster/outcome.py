"""What a task gives back: its value, or why it failed and whether it may go well another time."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from roicli.core.exceptions import ClusterError, InputError, RoicliError
from roicli.pipeline.cluster.worker import describe_difference, name_of_worker, read_versions

Value = TypeVar("Value")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Failure:
    """Why a task failed, and whether it may go well another time."""

    error: RoicliError
    again: bool


@dataclass(frozen=True)
class Success(Generic[Value]):
    """What a task gave."""

    value: Value


def as_outcome(work: Callable[[], Value], versions: dict[str, str]) -> Success[Value] | Failure:
    """Do the work of a task on its worker, which must have ``versions``; a bug is raised."""
    try:
        difference = describe_difference(versions, read_versions())
        if difference:
            raise ClusterError(f"{name_of_worker()}: has other versions: {difference}")
        return Success(work())
    except RoicliError as error:
        again = _may_pass(error)
        return Failure(_name_worker(error, again), again)
    except OSError as error:
        return Failure(InputError(f"{name_of_worker()}: {error}"), error.errno not in FULL)


def _name_worker(error: RoicliError, is_storage: bool) -> RoicliError:
    """The same error; one of the worker or its storage rather than the data says where it was."""
    is_worker = error.exit_code == ClusterError.exit_code and not isinstance(error, ClusterError)
    if not (is_worker or is_storage):
        return error
    return type(error)(f"{name_of_worker()}: {error}")


def _may_pass(error: RoicliError) -> bool:
    """Whether the cause is storage that may come back, and not what is stored."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause.errno not in FULL
        cause = cause.__cause__ or cause.__context__
    return False
