"""RoI Pool: Girshick 2015 (Fast R-CNN), section 2.1; ONNX MaxRoiPool-1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.types import FloatArray, FloatType, check_word
from roicli.core.vocabulary import Operator, Partition, PixelModel, Quantization
from roicli.operators.interface import Compiled, GraphWay, OperatorSpec
from roicli.operators.onnx_graph import GraphBuilder
from roicli.operators.rounding import BOX_RULES

if TYPE_CHECKING:
    from roicli.operators.reference import Expected


@dataclass(frozen=True)
class PoolSpec(OperatorSpec):
    """RoI Pool: every parameter of the operator (docs/semantics.md, RoI Pool; ONNX MaxRoiPool-1).

    ``output_size`` (height, width) in bins, ``spatial_scale`` in cells per image pixel,
    ``quantization`` is the rounding of the box, ``partition`` the rounding of the bins inside it
    (``rounding``). Raises ParameterError.
    """

    operator: ClassVar[Operator] = "pool"
    title: ClassVar[str] = "RoI Pool"
    compiled: ClassVar[Compiled] = Compiled("run_roi_pool", ("pool_blocks",))

    quantization: Quantization = "caffe"
    partition: Partition = "overlap"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word("quantization", self.quantization, Quantization)
        check_word("partition", self.partition, Partition)
        allowed = BOX_RULES[self.quantization].partitions
        if self.partition not in allowed:
            raise ParameterError(
                f"quantization {self.quantization} has bins of its own, found partition "
                f"{self.partition}, expected {' or '.join(allowed)}",
                "drop --partition, or choose another --quantization",
            )

    @property
    def pixel_model(self) -> PixelModel:
        """RoI Pool's cell i covers [i, i + 1)."""
        return "half-pixel"

    @property
    def native_to_max_roi_pool(self) -> bool:
        """Whether one ONNX MaxRoiPool node computes this exactly (else index windows do)."""
        return self.quantization == "caffe" and self.partition == "overlap"

    def expect(
        self, feature_map: FloatArray, corners: FloatArray, coordinate_ulp: float
    ) -> Iterator[tuple[slice, Expected]]:
        """The maxima of the bins."""
        from roicli.operators.reference import expect_pool

        return expect_pool(feature_map, corners, self)

    def graph_way(self, dtype: FloatType, resident: bool) -> GraphWay:
        """The MaxRoiPool node where it has this rule and type, else windows of cells."""
        node = self.native_to_max_roi_pool and dtype == np.float32 and not resident
        return "max roi pool node" if node else "index windows"

    def add_export(self, builder: GraphBuilder, dtype: FloatType) -> str:
        """One MaxRoiPool node, or index windows."""
        from roicli.operators.export import add_pool

        return add_pool(builder, self, dtype)
