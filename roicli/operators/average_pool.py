"""Average RoI Pool, and its position-sensitive kind: the mean of whole cells.

``average-pool`` takes RoI Pool's boxes and bins (``rounding``); ``ps-pool`` those of R-FCN (Dai et
al. 2016, section 2.2; psroi_pooling_layer), of ``torchvision.ops.ps_roi_pool`` and of ChainerCV. A
bin without cells is 0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from roicli.core.operator_table import Operator, PsRule
from roicli.core.record import frozen
from roicli.core.types import check_word
from roicli.core.vocabulary import Partition, Quantization
from roicli.operators.cell_taps import CellSpec
from roicli.operators.convention import AVERAGE_POOL, PS_RULES, Convention
from roicli.operators.rounding import BOX_RULES, check_rule
from roicli.operators.taps import check_group_size


@frozen
class AveragePoolSpec(CellSpec):
    """Average RoI Pool: RoI Pool's boxes and bins, and the mean of a bin's cells.

    ``output_size`` (height, width) in bins, ``spatial_scale`` in cells per image pixel,
    ``quantization`` and ``partition`` as RoI Pool's. Raises ParameterError.
    """

    operator: ClassVar[Operator] = "average-pool"
    title: ClassVar[str] = "average RoI Pool"

    quantization: Quantization = "caffe"
    partition: Partition = "overlap"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rule(self.quantization, self.partition)

    @property
    def convention(self) -> Convention:
        """RoI Pool's placement and cut, with a mean."""
        rule = BOX_RULES[self.quantization]
        cut = "hull" if rule.real_edges else self.partition
        return replace(AVERAGE_POOL, box=rule.box, cut=cut)


@frozen
class PsPoolSpec(CellSpec):
    """Position-sensitive RoI Pool (Dai et al. 2016, R-FCN): each bin reads channels of its own.

    ``output_size`` (height, width) in bins, ``spatial_scale`` in cells per image pixel,
    ``group_size`` g groups of bins on each axis (0: as many as bins), so that C channels give
    C / g^2; ``ps_rule`` is "r-fcn" (corners rounded before they are scaled, extent at least 0.1),
    "torchvision" (rounded after it, the last row and column never read) or "chainercv" (not
    rounded). Raises ParameterError.
    """

    operator: ClassVar[Operator] = "ps-pool"
    title: ClassVar[str] = "position-sensitive RoI Pool"

    group_size: int = 0
    ps_rule: PsRule = "r-fcn"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word("PS rule", self.ps_rule, PsRule)
        check_group_size(self.group_size, self.output_size)

    @property
    def groups(self) -> int:
        """Groups of bins on an axis."""
        return self.group_size or self.output_size[0]

    @property
    def convention(self) -> Convention:
        """The rule's, with its groups."""
        return replace(PS_RULES[self.ps_rule], group_size=self.groups)
