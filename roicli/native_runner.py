"""The compiled kernels behind ONNX Runtime's two steps: take a map, run blocks of RoIs."""

from __future__ import annotations

import numpy as np

from roicli import native
from roicli.datatypes import AlignSpec, FloatArray, OperatorSpec


class NativeRunner:
    """RoI Align or RoI Pool by the compiled kernels, with ONNX Runtime's bits."""

    def __init__(self, spec: OperatorSpec, threads: int) -> None:
        self._spec = spec
        self._threads = threads
        self._map: FloatArray = np.empty((0, 0, 0), np.float32)

    def load(self, feature_map: FloatArray) -> None:
        """Take the map (C, H, W) that the next RoIs are on."""
        self._map = np.ascontiguousarray(feature_map)

    def run(self, corners: FloatArray, out: FloatArray) -> None:
        """RoIs (k, 4) to ``out`` (k, C, P_h, P_w)."""
        if isinstance(self._spec, AlignSpec):
            native.run_roi_align(self._map, corners, self._spec, out, self._threads)
        else:
            native.run_roi_pool(self._map, corners, self._spec, out, self._threads)
