"""``roicli sample``: the sample data, for those who have no clone."""

import os
import shutil
from pathlib import Path
from typing import Annotated, Unpack

import roicli
from roicli.cli.console import print_line
from roicli.cli.options import QuietOption
from roicli.core.declaration import Arg
from roicli.core.exceptions import InputError, OutputError

NewFolder = Annotated[str, Arg("[FOLDER]", "The folder to make.")]

FOLDER = "sample_data"


def sample(folder: NewFolder = FOLDER, **options: Unpack[QuietOption]) -> None:
    """Write the sample data into a new folder: real feature maps and RoIs, 1 MB.

    Example: roicli sample
    """
    _write(find_sample_data(), Path(folder))
    if not options["quiet"]:
        print_line("note", f"wrote {folder}; see {Path(folder) / 'README.md'}")


def find_sample_data() -> Path:
    """The folder with the sample data: in the package, and in a clone beside it."""
    package = Path(roicli.__file__).parent
    found = next((at for at in (package / FOLDER, package.parent / FOLDER) if at.is_dir()), None)
    if found is None:
        raise InputError(f"{package}: was installed without {FOLDER}", "install roicli's wheel")
    return found


def _write(source: Path, folder: Path) -> None:
    """Copy a folder to a new name, which it has when it is whole."""
    target = folder.absolute()
    if target.exists():
        raise OutputError(f"{folder}: exists already", "name another folder")
    if not target.parent.is_dir():
        raise OutputError(f"{folder}: the folder {folder.parent} does not exist")
    making = target.with_name(f".{target.name}.roicli-part")
    try:
        making.mkdir()
        # shutil.copytree would say what failed as a list of every file.
        for path in sorted(source.rglob("*")):
            copy = making / path.relative_to(source)
            if path.is_dir() and path.name != "__pycache__":
                copy.mkdir()
            elif path.parent.name != "__pycache__":
                shutil.copyfile(path, copy)
        os.replace(making, target)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
