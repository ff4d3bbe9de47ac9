"""The one family of errors: a message, an exit code, and what to do next."""

from __future__ import annotations

from roicli.core.foreign import foreign


def first_line(error: BaseException) -> str:
    """What a foreign error says, in one line."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


class RoicliError(Exception):
    """An error that the user can act on.

    ``message`` says what is wrong, where, what was found and what was expected; ``hint`` says what
    to do next. Both are one line that is safe to print, and name options as the command line does:
    ``--roi-scale`` is the keyword ``roi_scale``. ``exit_code`` is what the command line returns.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.message = foreign(message)
        self.hint = None if hint is None else foreign(hint)
        super().__init__(self.message if hint is None else f"{self.message}; {self.hint}")


class ParameterError(RoicliError):
    """An option or argument is outside what the operator defines."""


class InputError(RoicliError):
    """A file or array cannot be read, or holds what the operator does not accept."""


def not_utf8(name: str, error: UnicodeDecodeError) -> InputError:
    """What is said of a text in another encoding, of which UTF-16 without a mark shows itself."""
    encodings = {0: "UTF-16BE", 1: "UTF-16LE"}
    encoding = encodings.get(bytes(error.object[:2]).find(0), "ENCODING (CP1252 on many Windows)")
    return InputError(
        f"{name}: is not UTF-8 text (byte {error.start})",
        f"save it as UTF-8, by an editor or by iconv -f {encoding} -t UTF-8",
    )


class DamagedFileError(InputError):
    """A file that makes the library that reads it crash or run on; opening it again would too."""


class OutputError(RoicliError):
    """A result cannot be written where it was asked for."""


class MissingPackageError(RoicliError):
    """A package is needed that the plain install does not bring; the hint says which extra does."""

    exit_code = 3


class VerificationError(RoicliError):
    """A result that is not what the same arithmetic in float64 gives: it is not to be trusted."""

    exit_code = 3


class ClusterError(RoicliError):
    """A cluster does not answer, lost its workers, or has other versions than this machine."""

    exit_code = 3


class ProviderError(RoicliError):
    """An execution provider is missing, does not load, or failed while it ran."""

    exit_code = 3


class DeviceMemoryError(ProviderError):
    """The device that computes has too little memory for what it was given."""


class RoicliWarning(UserWarning):
    """Something that a number may be wrong for, and that ends nothing."""
