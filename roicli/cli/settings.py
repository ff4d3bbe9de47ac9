"""Settings that stay: ``roicli.toml``, ``[tool.roicli]`` of pyproject.toml, ``ROICLI_*`` variables.

The command line is asked first, then the environment, then the file, then the defaults. A file may
come with a folder of somebody else's, so it says how things are computed and shown, and nothing of
what is read, written, replaced or contacted: those options are declared ``outward``. Python calls
read no settings.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_origin

from roicli.cli.words import read_word, terminal_type
from roicli.core.declaration import Declaration, Opt
from roicli.core.exceptions import InputError, ParameterError, RoicliError, first_line
from roicli.core.parse import did_you_mean

PREFIX = "ROICLI_"
# Variables that are no option: which file, and how HDF5 is opened (storage.formats.hdf5).
CONFIG = "ROICLI_CONFIG"
OTHER_VARIABLES = (CONFIG, "ROICLI_CONTAIN_HDF5")
FILE_NAMES = ("roicli.toml", "pyproject.toml")
LARGEST_FILE = 1 << 20
# What a pyproject.toml with settings has in it: the others need no parser.
MENTIONED = rb"""(?m)tool\s*\.\s*["']?roicli|^\s*["']?roicli["']?\s*[.=]"""

Options = Mapping[str, Declaration]


class Setting(NamedTuple):
    """What an option has unless the command line says otherwise, and where that was said.

    ``value`` is what a command line would give: text, a bool, or a list of texts.
    """

    key: str
    flag: str
    title: str
    value: Any
    origin: str


class SettingsFile(NamedTuple):
    """A file of settings: its name as messages have it, and what it holds."""

    name: str
    content: Mapping[str, Any]


# Those that the command which runs has taken.
_in_force: list[Setting] = []


def key_of(declaration: Declaration) -> str:
    """The name of an option in a file: its long flag without the dashes."""
    return declaration.flag.lstrip("-")


def variable_of(key: str) -> str:
    """The environment variable of an option."""
    return PREFIX + key.upper().replace("-", "_")


# Where settings come from ---------------------------------------------------------------------


def has_settings() -> bool:
    """Whether there may be any, at the cost of a look at the folders above this one."""
    return any(name.startswith(PREFIX) for name in os.environ) or find_file() is not None


def find_file() -> str | None:
    """The file that ``ROICLI_CONFIG`` names, or the nearest one, here or in a folder above.

    The search ends at the top of a repository, at the home folder and at the root. An empty
    ``ROICLI_CONFIG`` means no file.
    """
    named = os.environ.get(CONFIG)
    if named is not None:
        return named or None
    try:
        folder = os.getcwd()
    except OSError:  # it was removed
        return None
    home = os.path.expanduser("~")
    while True:
        for name in FILE_NAMES:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and (name == FILE_NAMES[0] or _mentions_roicli(path)):
                return os.path.relpath(path)
        above = os.path.dirname(folder)
        if folder in (above, home) or os.path.exists(os.path.join(folder, ".git")):
            return None
        folder = above


def _mentions_roicli(path: str) -> bool:
    """Whether a pyproject.toml may hold settings; one that cannot be read is somebody else's."""
    try:
        return bool(re.search(MENTIONED, _read_bytes(path)))
    except InputError:
        return False


def _read_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            content = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > LARGEST_FILE:
        raise InputError(f"{path}: is larger than a file of settings ever is")
    return content


def read_file() -> SettingsFile | None:
    """The settings of the nearest file. Raises InputError where it is no TOML."""
    path = find_file()
    if path is None:
        return None
    import tomllib  # seldom needed

    try:
        content = tomllib.loads(_read_bytes(path).decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no TOML: {first_line(error)}") from None
    if os.path.basename(path) != "pyproject.toml":
        return SettingsFile(path, content)
    tool = content.get("tool")
    own = tool.get("roicli") if isinstance(tool, dict) else None
    return SettingsFile(f"{path} [tool.roicli]", own) if isinstance(own, dict) else None


# What they say --------------------------------------------------------------------------------


def find_settings(command: str, options: Options) -> dict[str, Setting]:
    """The settings of a command by the keywords of its options, checked.

    Raises ParameterError or InputError that names where a setting stands.
    """
    by_key = {key_of(declaration): declaration for declaration in options.values()}
    found: dict[str, Setting] = {}
    file = read_file()
    for key, value, origin in _of_file(file, command, by_key) if file else ():
        declaration = by_key[key]
        assert isinstance(declaration.opt, Opt)
        if declaration.opt.outward:
            raise ParameterError(
                f"{origin}: {key} is not taken from a file, which may be a stranger's",
                f"give {declaration.flag}, or {variable_of(key)}",
            )
        found[declaration.name] = _check(declaration, _as_typed(value, declaration, origin), origin)
    for key, declaration in by_key.items():
        if text := os.environ.get(variable_of(key)):
            value = text.split() if get_origin(terminal_type(declaration.type)) is list else text
            found[declaration.name] = _check(declaration, value, variable_of(key))
    return found


def _of_file(file: SettingsFile, command: str, by_key: Options) -> Iterator[tuple[str, Any, str]]:
    """Key, value and origin of each entry for a command, those of its own table last."""
    for key, value in file.content.items():
        if isinstance(value, dict):
            _check_command(key, file.name)
        elif (known := key.replace("_", "-")) in by_key:
            yield known, value, file.name
        else:
            _check_key(key, _all_keys(), file.name)
    own = file.content.get(command, {})
    for key, value in own.items():
        origin = f"{file.name}: {command}"
        _check_key(key, by_key, origin)
        yield key.replace("_", "-"), value, origin


def _check_command(name: str, origin: str) -> None:
    from roicli.cli.commands import COMMANDS

    if name not in COMMANDS:
        raise InputError(
            f"{origin}: there is no command {name!r}", did_you_mean(name, list(COMMANDS)) or None
        )


def _check_key(key: str, known: Any, origin: str) -> None:
    if key.replace("_", "-") not in known:
        hint = did_you_mean(key.replace("_", "-"), list(known)) or "see roicli config COMMAND"
        raise InputError(f"{origin}: there is no option {key!r}", hint)


def _all_keys() -> set[str]:
    """The options of all commands, as files have them."""
    from roicli.cli.commands import COMMANDS, options_of

    return {key_of(one) for name in COMMANDS for one in options_of(name).values()}


def _as_typed(value: Any, declaration: Declaration, origin: str) -> Any:
    """A TOML value as the text that a command line would have."""
    typed, texts = terminal_type(declaration.type), (str, int, float)
    if typed is bool and isinstance(value, bool):
        return value
    is_list = isinstance(value, list) and all(
        isinstance(one, texts) and not isinstance(one, bool) for one in value
    )
    if get_origin(typed) is list and (is_list or isinstance(value, str)):
        return [str(one) for one in value] if is_list else [value]
    if is_list:
        return ",".join(map(str, value))
    if typed is bool or isinstance(value, bool) or not isinstance(value, texts):
        expected = "true or false" if typed is bool else "text or a number"
        raise ParameterError(f"{origin}: {key_of(declaration)} is {value!r}, expected {expected}")
    return str(value)


def _check(declaration: Declaration, value: Any, origin: str) -> Setting:
    """The setting, once its value is known to be one that the option takes."""
    key, typed = key_of(declaration), terminal_type(declaration.type)
    try:
        read = read_word(value, typed, declaration.title)
        declaration.read(read)
    except ParameterError as error:
        raise ParameterError(f"{origin}: {error.message}", error.hint) from None
    given = read if typed is bool else value
    return Setting(key, declaration.flag, declaration.title, given, origin)


# Who hears of them ----------------------------------------------------------------------------


def put_in_force(settings: Mapping[str, Setting], context: Any) -> None:
    """Keep those that the command line did not override, for the note and for what goes wrong."""
    _in_force[:] = [
        setting
        for name, setting in settings.items()
        if context.get_parameter_source(name).name == "DEFAULT_MAP"
    ]


def forget() -> None:
    """No setting is in force."""
    _in_force.clear()


def note_settings() -> None:
    """Say what a file gives, which the user may not know of, and which variables are none."""
    log = logging.getLogger("roicli")
    of_file: dict[str, list[str]] = {}
    for setting in _in_force:
        if not setting.origin.startswith(PREFIX):
            of_file.setdefault(setting.origin.partition(": ")[0], []).append(_say(setting))
    for name, said in of_file.items():
        log.info("%s gives %s", name, ", ".join(said))
    expected = {*OTHER_VARIABLES, *(variable_of(setting.key) for setting in _in_force)}
    others = {name for name in os.environ if name.startswith(PREFIX)} - expected
    if not others:  # what all commands know takes long to gather
        return
    known = [*OTHER_VARIABLES, *map(variable_of, _all_keys())]
    for name in sorted(others - set(known)):
        hint = did_you_mean(name, known)
        log.info("%s is no setting%s", name, f"; {hint}" if hint else "")


def _say(setting: Setting) -> str:
    if isinstance(setting.value, bool):
        return f"{setting.flag} {str(setting.value).lower()}"
    values = setting.value if isinstance(setting.value, list) else [setting.value]
    return " ".join([setting.flag, *values])


def name_origins(error: RoicliError) -> str:
    """What to add to an error that is about an option that was not typed."""
    text = str(error)
    told = [one for one in _in_force if _is_about(text, one)]
    return "".join(f"; {setting.flag} is from {setting.origin}" for setting in told)


def _is_about(text: str, setting: Setting) -> bool:
    """Whether a message speaks of the option, or holds a word that it was given."""
    said = [rf"^{re.escape(setting.title)}\b", rf"\b{re.escape(setting.title)} (is|are)\b"]
    said += [rf"(?<![\w-]){re.escape(setting.flag)}(?![\w-])"]
    values = setting.value if isinstance(setting.value, list) else [str(setting.value)]
    words = [
        word for one in values for word in re.split(r"[,\s]", one) if re.match(r"[^\W\d]", word)
    ]
    said += [rf"\b{re.escape(word)}\b" for word in words if word not in ("true", "false")]
    return any(re.search(pattern, text, re.IGNORECASE) for pattern in said)
