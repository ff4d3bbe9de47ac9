"""What an operator is: a frozen dataclass whose fields are its options, in a file of its own.

Whatever runs, checks or describes operators knows them through ``OperatorSpec`` alone and names
none. ``OPERATORS`` in ``roicli.operators.table`` lists the files.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.operator_table import Operator
from roicli.core.record import frozen
from roicli.core.types import (
    FloatArray,
    FloatType,
    IntArray,
    RoIs,
    Size,
    check_output_size,
    check_spatial_scale,
)
from roicli.core.vocabulary import PixelModel
from roicli.operators.onnx_graph import GraphBuilder
from roicli.operators.reference import Expected

# The ways that graphs are run in, each with a runner of its own (roicli.runtime.runners). A new
# operator reads cells with weights, or their maximum: "taps", by being a ``taps.TapSpec``.
GraphWay = Literal["one node", "fine grid", "max roi pool node", "index windows", "taps"]


class Compiled(NamedTuple):
    """An operator's compiled kernel: the function of ``runtime.native.run`` that calls it, and the
    compiled functions that it consists of.
    """

    call: str
    functions: tuple[str, ...]


class Sampling(NamedTuple):
    """What the sampling points of K RoIs take: ``size`` (K,) in bytes, ``counts`` (K, 2) points a
    bin as (x, y), and what messages call them.
    """

    size: FloatArray
    counts: IntArray
    name: str


@frozen
class OperatorSpec(ABC):
    """An operator with its options, at one scale.

    ``output_size`` (height, width) in bins, ``spatial_scale`` in cells per image pixel. Raises
    ParameterError.
    """

    operator: ClassVar[Operator]
    title: ClassVar[str]
    # The numbers of a RoI, in order, after the index of its image.
    roi_columns: ClassVar[tuple[str, ...]] = ("x1", "y1", "x2", "y2")

    output_size: Size = (7, 7)
    spatial_scale: float = 1.0

    def __post_init__(self) -> None:
        check_output_size(self.output_size)
        check_spatial_scale(self.spatial_scale)

    @property
    def offset_shape(self) -> tuple[int, ...]:
        """The shape of the offsets that each RoI has beside its columns; () for none."""
        return ()

    def numbers_of(self, rois: RoIs) -> FloatArray:
        """(K, n): the columns of the RoIs that it reads, then their offsets, 0 without any."""
        numbers = rois.numbers(self.roi_columns)
        if not self.offset_shape:
            return numbers
        offsets = rois.offsets
        if offsets is None:
            offsets = np.zeros((len(rois), *self.offset_shape))
        # Without RoIs there is no size to find out.
        flat = offsets.reshape(len(rois), math.prod(self.offset_shape))
        return np.concatenate([numbers, flat], axis=1)

    @property
    def name(self) -> str:
        """What messages and pictures call it."""
        return self.title

    @property
    def compiled(self) -> Compiled | None:
        """Its compiled kernel. Without one (None) the provider native cannot run it."""
        return None

    @property
    @abstractmethod
    def pixel_model(self) -> PixelModel:
        """Where the value of cell i lies: at i + 0.5 (half-pixel) or at i (legacy)."""

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The options by name, each with its default."""
        options = {field.name: field.default for field in fields(cls)}
        del options["spatial_scale"]
        return options

    def at_scale(self, spatial_scale: float) -> Self:
        """The same operator on a map of another scale."""
        return replace(self, spatial_scale=spatial_scale)

    def output_channels(self, channels: int) -> int:
        """The number of channels of the result for a map of ``channels``."""
        return channels

    def describe(self) -> dict[str, Any]:
        """Its options by name, as plain values; the scale is the map's."""
        options = {name: getattr(self, name) for name in self.defaults()}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}

    def input_channels(self, part: slice) -> slice:
        """The channels of the map that the channels ``part`` of the result are computed from."""
        return part

    def work(self, corners: FloatArray) -> FloatArray:
        """(k,): from how many values of the map each bin of the RoIs (k, 4) is computed."""
        return np.ones(len(corners))

    def sampling(self, corners: FloatArray, channels: int, dtype: FloatType) -> Sampling:
        """The memory that the sampling points of each of the RoIs (K, 4) take at once."""
        return Sampling(np.zeros(len(corners)), np.zeros((len(corners), 2), np.int64), "sampling")

    @abstractmethod
    def expect(
        self, feature_map: FloatArray, corners: FloatArray, coordinate_ulp: float = 0.0
    ) -> Iterator[tuple[slice, Expected]]:
        """The float64 reference of one RoI, some channels at a time: (channels, their Expected).

        ``feature_map`` (C, H, W) and ``corners`` (4,) in image pixels, both in the dtype that the
        operator computes in. ``coordinate_ulp`` is how far, in units in the last place, the
        operator's own sampling points may be from ``geometry``'s: 0 where their arithmetic is the
        same.
        """

    @abstractmethod
    def graph_way(self, dtype: FloatType, resident: bool) -> GraphWay:
        """How its graph is run on maps of ``dtype``; ``resident``: on a device with own memory."""

    def add_export(self, builder: GraphBuilder, dtype: FloatType) -> str:
        """Add the nodes that compute it from ``features`` and ``rois``; gives the result's name.

        Raises ParameterError where no graph can compute it.
        """
        raise ParameterError(f"{self.name} cannot be exported as a graph")
