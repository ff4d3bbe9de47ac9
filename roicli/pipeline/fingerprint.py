"""What two runs must share for one to go on where the other stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from roicli.core.foreign import foreign
from roicli.core.types import Array, RoIs, as_bytes
from roicli.pipeline.run import Run
from roicli.storage.array import MemoryArray
from roicli.storage.file_state import hash_file

# The states of more files than that are one text.
MOST_NAMED = 100


def fingerprint(run: Run, parameters: Mapping[str, Any], verify_inputs: bool) -> dict[str, str]:
    """Parameters, the RoIs' contents, and the state of every input, as flat text by name.

    Files count by size and time, with ``verify_inputs`` by their contents; arrays in memory and
    what came through a pipe always by their contents. Raises InputError.
    """
    found = {name: _as_text(value) for name, value in parameters.items() if name != "created_utc"}
    found["RoIs' contents"] = _hash_rois(run.inputs.rois, run.inputs.map_of_roi)
    files = run.inputs.files
    if len(files) > MOST_NAMED:
        states = sorted((path, *state, hash_file(path) if verify_inputs else "")
                        for path, state in files.items())  # fmt: skip
        found[f"states of {len(files):,} files"] = _hash_text(json.dumps(states))
        files = {}
    for path, state in files.items():
        name = foreign(path)
        found[f"size of {name}"] = f"{state.size:,} bytes"
        found[f"modification time of {name}"] = f"{state.mtime_ns} ns"
        if verify_inputs:
            found[f"SHA-256 of {name}"] = hash_file(path)
    for level in run.pyramid.levels:
        if isinstance(level.stored, MemoryArray):
            found[f"SHA-256 of {level.stored.name}"] = _hash_arrays(level.stored.read_all())
    return found


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _hash_rois(rois: RoIs, map_of_roi: Array) -> str:
    more = (one for one in (rois.turned, rois.offsets) if one is not None)
    return _hash_arrays(rois.corners, rois.batch_index, map_of_roi, *more)


def _hash_arrays(*arrays: Array) -> str:
    digest = hashlib.sha256()
    for values in arrays:
        digest.update(as_bytes(np.ascontiguousarray(values)))
    return digest.hexdigest()
