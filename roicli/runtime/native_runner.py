"""The compiled kernels behind ONNX Runtime's two steps: take a map, run blocks of RoIs."""

from __future__ import annotations

import numpy as np

from roicli.core.types import FloatArray, FloatType
from roicli.operators.interface import OperatorSpec
from roicli.runtime.device_map import MapPlacer, PlacedMap
from roicli.runtime.native import run as native


class NativeRunner:
    """An operator by its compiled kernel.

    Loads it, or compiles what is not on disk yet. Raises ProviderError without Numba, and where
    there is none.
    """

    def __init__(self, spec: OperatorSpec, dtype: FloatType, threads: int) -> None:
        native.prepare(spec, dtype)
        self._spec, self._call = spec, getattr(native, native.compiled_of(spec).call)
        self._threads = threads
        self._placer = MapPlacer(np.dtype(np.float32))
        self._map: FloatArray | None = None

    def load(self, feature_map: FloatArray | PlacedMap) -> None:
        """Take the map (C, H, W) that the next RoIs are on."""
        self._map = self._placer.place(feature_map).host

    def run(self, corners: FloatArray, out: FloatArray) -> None:
        """RoIs (k, 4) to ``out`` (k, C, P_h, P_w)."""
        assert self._map is not None
        self._call(self._map, corners, self._spec, out, self._threads)
