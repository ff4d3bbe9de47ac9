"""One stretch of coverage-guided fuzzing: ``python -m fuzz.stretch TARGET COUNT SEED FOLDER``.

libFuzzer ends the process at a signal or a hang; the input that it was at is in FOLDER/last.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import random
import sys

import atheris

import roicli

with atheris.instrument_imports(include=["roicli"]):
    # Commands import what they need when they run; here all of it is to be seen.
    for module in pkgutil.walk_packages(roicli.__path__, "roicli."):
        if not module.name.startswith(("roicli.runtime.native", "roicli.__main__")):
            importlib.import_module(module.name)
    from fuzz.execution import execute, make_folder
    from fuzz.targets import TARGETS, Target

from fuzz.by_mutation import HANG_SECONDS

MOST_BYTES = 16 << 10


class _Stretch:
    """What one process counts and tells."""

    def __init__(self, target: Target, folder: str) -> None:
        self._target, self._seeds = target, list(target.seeds().values())
        self._told = open(os.path.join(folder, "findings"), "w")  # noqa: SIM115 - ends with us
        self._count = open(os.path.join(folder, "count"), "w")  # noqa: SIM115
        self._last = open(os.path.join(folder, "last"), "wb", buffering=0)  # noqa: SIM115
        self._done = 0

    def test(self, data: bytes) -> None:
        """One input; a finding does not end the stretch."""
        self._done += 1
        self._count.seek(0)
        self._count.write(str(self._done))
        self._count.flush()
        self._last.seek(0)
        self._last.truncate()
        self._last.write(data)
        found = execute(self._target, data)
        if found is not None:
            self._told.write(f"{self._done}\t{found.kind}\t{found.text!r}\t{data.hex()}\n")
            self._told.flush()

    def mutate(self, data: bytes, most: int, seed: int) -> bytes:
        """By libFuzzer, or by the target's own knowledge of its format."""
        if seed % 2:
            return bytes(atheris.Mutate(data, most))
        pool = [data, *self._seeds] if seed % 4 else [data]
        return self._target.generate(pool, random.Random(seed))[:most]


def main() -> None:
    """One stretch."""
    name, count, seed, folder = sys.argv[1:5]
    target = next(each for each in TARGETS if each.name == name)
    stretch = _Stretch(target, folder)
    make_folder(os.path.join(folder, "work"))
    flags = [
        f"-runs={count}", f"-seed={seed}", f"-max_len={MOST_BYTES}", f"-timeout={HANG_SECONDS:.0f}",
        "-rss_limit_mb=4096", "-print_final_stats=0", "-verbosity=0",
        f"-artifact_prefix={folder}/", os.path.join(folder, "corpus"),
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *flags], stretch.test, custom_mutator=stretch.mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
