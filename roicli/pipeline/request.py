"""What is asked of a run: every option checked once, over its declared default.

The boundary makes one of these records of a call's keywords; a stage takes the part that it reads.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from roicli.core.call_options import ErrorsOptions, ExportOptions
from roicli.core.declaration import record
from roicli.core.exceptions import ParameterError
from roicli.core.input_options import ExternalOption, IgnoreOption, ReadingOptions
from roicli.core.operator_options import (
    PixelModelOption,
    PresetOption,
    RatioOption,
    RoundingOptions,
    SamplingOptions,
    ScaleOption,
    SizeOption,
)
from roicli.core.operator_table import OwnOptions, RunOptions
from roicli.core.parse import AUTO
from roicli.core.progress import Progress, StageTimes
from roicli.core.types import TURNED_COLUMNS, Size
from roicli.core.vocabulary import (
    AngleUnit,
    Compression,
    GraphDtype,
    LevelRule,
    Mode,
    Partition,
    PixelModel,
    Provider,
    Quantization,
    ResultDtype,
    RoiFormat,
    SamplingGrid,
    StoredAs,
)
from roicli.operators.levels import LevelAssignment
from roicli.pipeline.features import FeatureArgument, MapReading, Scales


@record(ScaleOption, ReadingOptions, IgnoreOption, ExternalOption)
class Reading:
    """How maps and RoIs are read."""

    spatial_scale: Scales | None
    images: Any
    image_from: Any
    where: str | None
    drop_invalid: bool
    levels: tuple[str, ...] | None
    level_rule: LevelRule
    canonical_size: float | None
    canonical_level: int | None
    level_from: FeatureArgument | None
    roi_format: RoiFormat | None
    roi_columns: tuple[str, ...] | None
    angle_unit: AngleUnit | None
    normalized: bool
    image_size: Size | None
    roi_scale: Any
    layout: str
    decode: bool
    stored_as: StoredAs | None
    ignore: tuple[str, ...] | None
    allow_external: bool

    @property
    def of_maps(self) -> MapReading:
        """What of this is about the maps' arrays."""
        return MapReading(self.layout, self.decode, self.stored_as)

    @property
    def names_of_turned(self) -> tuple[str, ...]:
        """What six columns without names are where RoIs must be turned, else none."""
        return ()

    def turned_in(self, angle_unit: AngleUnit) -> TurnedReading:
        """The same where RoIs must be turned, and their angles are in this unit."""
        own = {one.name: getattr(self, one.name) for one in fields(Reading)}
        return TurnedReading(**{**own, "angle_unit": angle_unit})

    @property
    def level_assignment(self) -> LevelAssignment:
        """The level rule with its constants. Raises ParameterError."""
        return LevelAssignment(
            self.level_rule, self.canonical_size, self.canonical_level, self.image_size
        )

    @property
    def normalized_to(self) -> Size | None:
        """The size that normalized coordinates refer to, or None. Raises ParameterError."""
        if self.normalized and self.roi_scale is not None:
            raise ParameterError(
                "normalized RoIs go to the network's pixels by --image-size, and --roi-scale is "
                "given too",
                "give the network's image size, and drop --roi-scale",
            )
        if self.normalized and self.image_size is None:
            raise ParameterError(
                "normalized RoIs need the image size", "add --image-size HEIGHTxWIDTH"
            )
        return self.image_size if self.normalized else None

    @property
    def still_needs_image_size(self) -> bool:
        """Whether something needs the image size once the maps' scales are known."""
        return self.normalized or self.level_assignment.needs_image_size

    def check_image_size(self) -> None:
        """Raise ParameterError for an image size that nothing needs."""
        needed = self.spatial_scale == AUTO or self.still_needs_image_size
        if self.image_size is not None and not needed:
            raise ParameterError(
                "image size is given, and RoIs in pixels do not need it",
                "add --normalized, or drop it",
            )


@record()
class SizedReading(Reading):
    """The same for an operator that takes the image's size itself."""

    def check_image_size(self) -> None:
        """It is needed."""


@record()
class TurnedReading(Reading):
    """The same for an operator that takes turned RoIs."""

    @property
    def names_of_turned(self) -> tuple[str, ...]:
        """What six columns without names are."""
        return ("image", *TURNED_COLUMNS)


@record(
    SizeOption,
    RatioOption,
    SamplingOptions,
    RoundingOptions,
    PixelModelOption,
    PresetOption,
    OwnOptions,
)
class Operation:
    """What is said of the operator; None leaves it to a node, a preset or the default.

    Every operator's options are fields; those that the code reads by name are spelled.
    """

    output_size: Size | None
    sampling_ratio: int | None
    aligned: bool | None
    sampling_grid: SamplingGrid | None
    mode: Mode | None
    quantization: Quantization | None
    partition: Partition | None
    pixel_model: PixelModel | None
    preset: str | None
    graph: str | None
    offsets: FeatureArgument | None


@record(RunOptions)
class RunRequest(Reading, Operation):
    """What is asked of a run; ``threads`` None are the usable cores, ``dtype`` None the maps'."""

    provider: Provider
    threads: int | None
    max_memory: int | None
    max_device_memory: int | None
    device_id: int
    strict_provider: bool
    verify: bool | int | None
    verify_rois: int | None
    force: bool
    compression: Compression
    dtype: ResultDtype | None
    values: bool
    errors_out: str | None
    group_by: str | None
    table_columns: tuple[str, ...]
    resume: bool
    verify_inputs: bool
    shard: str | None
    dask: str | None
    progress: Progress
    stage_times: StageTimes | None

    @property
    def verified(self) -> bool | int | None:
        """How many RoIs are computed again, or whether any are."""
        return self.verify if self.verify_rois is None else self.verify_rois


@record(ErrorsOptions)
class ErrorsRequest(RunRequest):
    """What is asked of ``errors``; ``map_size`` (height, width) is known without features."""

    map_size: Size | None


@record(ExportOptions)
class ExportRequest(Operation):
    """What is asked of ``export``; ``into`` is a model whose RoI nodes are replaced."""

    into: str | None
    input: Any
    spatial_scale: Scales | None
    dtype: GraphDtype
    opset: int
    force: bool
