"""A map where the operators read it: put there once, and shared by every operator of the run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from roicli.core.exceptions import DeviceMemoryError
from roicli.core.types import FloatArray, FloatType
from roicli.operators import graphs
from roicli.runtime.devices import HOST, Device
from roicli.runtime.session import Feed, Session


@dataclass(eq=False, repr=False)
class PlacedMap:
    """One map (C, H, W) in the dtype that it is computed in.

    ``value`` (1, C, H, W) feeds sessions; ``host`` is the map on the host, where it stayed there;
    ``given`` is the map as it came, valid until its buffer is used again. ``cell_table``
    (H * W, C) and its like for NaN, ``nan_table``, are added by the first operator that needs them.
    """

    shape: tuple[int, int, int]
    value: Feed
    host: FloatArray | None = None
    given: FloatArray | None = None
    cell_table: Feed | None = None
    nan_table: Feed | None = None

    @cached_property
    def is_finite(self) -> bool:
        """Whether no cell is NaN or infinite; asked once a map, in one pass over it."""
        if self.given is None:
            return True
        with np.errstate(over="ignore", invalid="ignore"):
            total = np.add.reduce(self.given, axis=None)
        # A sum of finite cells is finite unless it overflows.
        return bool(np.isfinite(total)) or bool(np.isfinite(self.given).all())

    @cached_property
    def first_cells_are_finite(self) -> bool:
        """Whether the first cell of every channel is neither NaN nor infinite."""
        return self.given is None or bool(np.isfinite(self.given[:, 0, 0]).all())

    def exact_feeds(self, dtype: FloatType) -> dict[str, FloatArray]:
        """The feeds of a graph that reads nothing off the map (``roi_align.add_exact_samples``)."""
        assert self.given is not None
        features = np.array(self.given, dtype)[None]
        first_cells = np.where(np.isfinite(features[:, :, :1, :1]), 0, features[:, :, :1, :1])
        features[:, :, 0, 0][first_cells[:, :, 0, 0] != 0] = 0
        if 1 in self.shape[1:]:
            # The next cell of an axis of one cell is the first again, with the weight 0.
            first_cells[first_cells != 0] = np.nan
        mark = np.zeros((1, 1, *self.shape[1:]), dtype)
        mark[..., 0, 0] = 1
        return {"features": features, "first_cells": first_cells, "first_cell_mark": mark}

    def on_host(self, dtype: FloatType) -> FloatArray:
        """The map (C, H, W) as it came, in ``dtype``."""
        assert self.given is not None
        return self.given.astype(dtype, copy=False)

    def mark_nans(self, dtype: FloatType) -> FloatArray | None:
        """(1, C, H, W): 1 where a cell is NaN, else 0; None where none is."""
        if self.given is None or self.is_finite:
            return None
        marks = np.isnan(self.given)
        return marks.astype(dtype)[None] if marks.any() else None


class MapPlacer:
    """Puts maps on a device.

    A resident device gets a float16 map as float16 and makes it ``dtype`` itself: half of the bytes
    cross over, and the RoIs, whose type ONNX ties to the map's, stay as exact as they are.
    """

    def __init__(self, dtype: FloatType, device: Device = HOST, threads: int = 1) -> None:
        self._dtype, self._device = dtype, device

        @cache
        def session(stored: FloatType) -> Session:
            return Session(graphs.build_placing_graph(stored, dtype), device, threads)

        self._session = session

    @property
    def upcasts(self) -> bool:
        """Whether a map may come as float16."""
        return self._device.resident

    def place(self, feature_map: FloatArray | PlacedMap) -> PlacedMap:
        """The map (C, H, W) on the device; one that is there already is passed on."""
        if isinstance(feature_map, PlacedMap):
            return feature_map
        array = np.ascontiguousarray(feature_map)
        channels, height, width = array.shape
        if not self._device.resident:
            return PlacedMap((channels, height, width), array[None], array, array)
        try:
            value = self._session(array.dtype).run_resident({"features": array[None]})
        except DeviceMemoryError as error:
            raise too_small(self._device, "one image", error) from error
        return PlacedMap((channels, height, width), value, given=array)


def too_small(device: Device, what: str, error: DeviceMemoryError) -> DeviceMemoryError:
    """The error of a device on which not even ``what`` fits."""
    return DeviceMemoryError(
        f"{device} has too little memory for {what}: {error.message}",
        "give more with --max-device-memory, or --provider cpu",
    )


NO_MAP = PlacedMap((0, 0, 0), None)
