"""Whole commands where the system lacks what macOS lacks."""

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from roicli.core import system
from tests.cli.conftest import Arrays
from tests.cli.running import FEATURES, ROIS, SCALE, refuse, succeed
from tests.core.test_system import LACKING

COMMANDS = [
    ("align", FEATURES, ROIS, *SCALE, "-o", "o.npy"),
    ("align", FEATURES, ROIS, *SCALE, "-o", "o.h5", "--errors-out", "e.csv"),
    ("pool", FEATURES, ROIS, *SCALE, "-o", "o.h5", "--compression", "gzip"),
    ("pool", FEATURES, ROIS, *SCALE, "-o", "o.h5", "--resume"),
    ("align", FEATURES, ROIS, *SCALE, "-o", "o.h5", "--compression", "lzf", "--resume"),
]


def features_of(path: str) -> Any:
    if path.endswith(".npy"):
        return np.load(path)
    with h5py.File(path) as file:
        return file["roi_features"][()]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: " ".join(words[6:]))
def test_results_are_written_and_replaced_as_on_linux(
    inputs: Arrays, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = command[command.index("-o") + 1]
    succeed(*command)
    there, expected = sorted(os.listdir()), features_of(output)
    os.unlink(output)
    Path("e.csv").unlink(missing_ok=True)
    for name in LACKING["macOS"]:
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(system, "_load_renameat2", lambda: None)
    succeed(*command)
    assert sorted(os.listdir()) == there
    refuse(*command, words=("exists already",))
    succeed(*command, "--force")
    assert sorted(os.listdir()) == there
    np.testing.assert_array_equal(features_of(output), expected)
