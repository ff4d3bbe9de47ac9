"""``python -m fuzz``: every target by mutation and by coverage, and a table of what came out."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter

from fuzz import by_mutation
from fuzz.execution import Finding
from fuzz.targets import TARGETS, Target

KINDS = ("crash", "traceback", "hang", "files left behind", "memory", "output", "exit code")
# No faster place for many small files; where there is none, the usual one.
QUICK = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108


class Findings:
    """What one target's inputs came to; the inputs are kept in a folder, one of each kind."""

    def __init__(self, target: Target, how: str, folder: str) -> None:
        self.counts: Counter[str] = Counter()
        self._target, self._how, self._folder = target, how, folder
        self._seen: set[str] = set()

    def report(self, number: int, data: bytes, found: Finding) -> None:
        """Count a finding; print and keep the first of its words."""
        self.counts[found.kind] += 1
        key = found.kind + found.text[-160:]
        if key in self._seen:
            return
        self._seen.add(key)
        os.makedirs(self._folder, exist_ok=True)
        name = f"{self._target.name}-{self._how}-{number}{self._target.ending(data)}"
        path = os.path.join(self._folder, name)
        with open(path, "wb") as stream:
            stream.write(data)
        sys.stdout.write(f"{found.kind}: {path}\n    {found.text}\n")


def main() -> int:
    """Run what was asked for; 1 where something was found."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000, help="a target, half each way")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--targets", default=",".join(target.name for target in TARGETS))
    parser.add_argument("--by", default="mutation,coverage")
    parser.add_argument("--keep", default="fuzz-findings", help="folder for inputs that fail")
    options = parser.parse_args()
    keep, total = os.path.abspath(options.keep), 0
    ways = options.by.split(",")
    sys.stdout.write(
        f"{'target':8}{'by':10}{'inputs':>8}{'seconds':>9}  " + ", ".join(KINDS) + "\n"
    )
    for target in TARGETS:
        for how in ways if target.name in options.targets.split(",") else ():
            count = options.inputs // len(ways)
            findings, started = Findings(target, how, keep), time.monotonic()
            with tempfile.TemporaryDirectory(dir=QUICK) as folder:
                _run_target(how)(target, count, options.seed, folder, findings.report)
            total += findings.counts.total()
            counts = ", ".join(str(findings.counts[kind]) for kind in KINDS)
            seconds = time.monotonic() - started
            sys.stdout.write(f"{target.name:8}{how:10}{count:8}{seconds:9.0f}  {counts}\n")
            sys.stdout.flush()
    return 1 if total else 0


def _run_target(how: str) -> by_mutation.Runner:
    if how == "mutation":
        return by_mutation.run_target
    from fuzz import by_coverage

    return by_coverage.run_target


if __name__ == "__main__":
    sys.exit(main())
