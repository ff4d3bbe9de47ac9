"""What is asked of a run: every option checked once, over its declared default.

The boundary makes one of these records of a call's keywords; a stage takes the part that it reads.
"""

from __future__ import annotations

from typing import Any

from roicli.core.call_options import AlignOptions, ErrorsOptions, ExportOptions
from roicli.core.declaration import record
from roicli.core.options import (
    BorderOption,
    ExternalOption,
    GraphOption,
    IgnoreOption,
    ModeOption,
    PixelModelOption,
    PresetOption,
    RatioOption,
    ReadingOptions,
    RoundingOptions,
    SamplingOptions,
    ScaleOption,
    SizeOption,
)
from roicli.core.progress import Progress, StageTimes
from roicli.core.types import Size
from roicli.core.vocabulary import (
    Border,
    Compression,
    GraphDtype,
    LevelRule,
    Mode,
    Partition,
    PixelModel,
    PresetName,
    Provider,
    Quantization,
    ResultDtype,
    RoiFormat,
    SamplingGrid,
)
from roicli.pipeline.features import FeatureArgument


@record(ScaleOption, ReadingOptions, IgnoreOption, ExternalOption)
class Reading:
    """How maps and RoIs are read."""

    spatial_scale: tuple[float, ...] | None
    images: Any
    image_from: Any
    where: str | None
    drop_invalid: bool
    levels: tuple[str, ...] | None
    level_rule: LevelRule
    level_from: FeatureArgument | None
    roi_format: RoiFormat
    normalized: bool
    image_size: Size | None
    ignore: tuple[str, ...] | None
    allow_external: bool


@record(
    SizeOption,
    RatioOption,
    SamplingOptions,
    ModeOption,
    RoundingOptions,
    PixelModelOption,
    PresetOption,
    GraphOption,
    BorderOption,
)
class Operation:
    """What is said of the operator; None leaves it to a node, a preset or the default."""

    output_size: Size | None
    sampling_ratio: int | None
    aligned: bool | None
    sampling_grid: SamplingGrid | None
    mode: Mode | None
    quantization: Quantization | None
    partition: Partition | None
    border: Border | None
    pixel_model: PixelModel | None
    preset: PresetName | None
    graph: str | None


@record(AlignOptions)
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
    """What is asked of ``export``."""

    spatial_scale: tuple[float, ...] | None
    dtype: GraphDtype
    force: bool
