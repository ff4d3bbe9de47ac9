"""Results of other engines, kept beside the tests: some channels of what they gave."""

import json
from pathlib import Path

import numpy as np

DATA = Path(__file__).parent / "data"


def engines(name):
    """Every entry of a file of results, by its name."""
    with np.load(DATA / f"engines_{name}.npz", allow_pickle=False) as stored:
        return json.loads(str(stored["index"]))


def engine_result(name, entry):
    """(features, RoIs, result) of an entry, with what is said of it."""
    with np.load(DATA / f"engines_{name}.npz", allow_pickle=False) as stored:
        told = json.loads(str(stored["index"]))[entry]
        return stored["features"], stored[told["rois"]], stored[entry], told
