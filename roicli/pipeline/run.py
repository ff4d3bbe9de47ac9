"""One run, opened: checked inputs, resolved parameters, a chosen provider."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from roicli.core.exceptions import InputError
from roicli.core.operator_table import Operator
from roicli.core.system import resident_bytes, usable_cores
from roicli.core.types import TURNED_COLUMNS, FloatArray, IntArray
from roicli.core.vocabulary import Provider
from roicli.error_table.columns import COLUMN_BY_NAME, VALUE_COLUMNS
from roicli.error_table.table import ErrorTable, MapGeometry
from roicli.operators.interface import OperatorSpec
from roicli.pipeline.features import FeatureArgument, FeaturePyramid, Scales
from roicli.pipeline.inputs import (
    Inputs,
    open_inputs,
    single_scale,
)
from roicli.pipeline.memory import budget_of, check_address_space, plan_device, plan_memory
from roicli.pipeline.offsets import take_offsets
from roicli.pipeline.request import Operation, Reading, RunRequest, SizedReading
from roicli.pipeline.settings import Setting, resolve_setting, turned_by_preset
from roicli.pipeline.stream import Engine, ValueMeasurer
from roicli.pipeline.validation import check_sampling_memory
from roicli.runtime.devices import Device
from roicli.runtime.providers import choose_provider
from roicli.storage.address import check_regular_file, parse_address
from roicli.storage.exchange import check_features
from roicli.storage.file_state import FileState, read_state
from roicli.storage.roi_columns import find_named

if TYPE_CHECKING:
    from roicli.pipeline.model_nodes import RoiNode
    from roicli.pipeline.verify import Verifier

logger = logging.getLogger("roicli")

# A result so large takes ONNX Runtime on two cores ten seconds or more.
LONG_RUN_BYTES = 2 << 30

AnySpec = TypeVar("AnySpec", bound=OperatorSpec)


@dataclass(eq=False, repr=False)
class Run:
    """One opened run: inputs, setting and engine; closes its files.

    ``plan_block`` gives the bytes of a block that the memory allows beside the maps known by then.
    """

    operator: str
    inputs: Inputs
    setting: Setting
    engine: Engine
    plan_block: Callable[[], int]
    asked_provider: Provider
    group_by: str | None = None
    value_columns: dict[str, FloatArray] = field(default_factory=dict)

    @property
    def pyramid(self) -> FeaturePyramid:
        """The maps; a run always has them."""
        assert self.inputs.pyramid is not None
        return self.inputs.pyramid

    def close(self) -> None:
        """Let go of the inputs' files."""
        self.inputs.close()

    @property
    def spec(self) -> OperatorSpec:
        """The operator that is asked for."""
        return self.setting.spec

    def scaled(self, spec: AnySpec) -> list[AnySpec]:
        """The spec on every level of the pyramid."""
        return [spec.at_scale(level.spatial_scale) for level in self.pyramid.levels]

    def result_shape(self, spec: OperatorSpec) -> tuple[int, ...]:
        """(K, C, P_h, P_w) of its result."""
        channels = spec.output_channels(self.pyramid.channels)
        return (len(self.inputs.rois), channels, *spec.output_size)

    def error_table(self) -> ErrorTable:
        """The error table of this run's RoIs, with the value columns measured so far."""
        return build_error_table(self.inputs, self.setting, self.value_columns, self.group_by)


def build_error_table(
    inputs: Inputs,
    setting: Setting,
    values: Mapping[str, FloatArray] | None = None,
    group_by: str | None = None,
) -> ErrorTable:
    """The table of the inputs' RoIs, on each level's map. Raises ParameterError for a column to
    group by that there is not.
    """
    maps = [
        MapGeometry(
            setting.pool.at_scale(place.spatial_scale), place.map_size, place.level, place.sizes
        )
        for place in inputs.places
    ]
    dtype = np.float32 if inputs.pyramid is None else inputs.pyramid.compute_dtype
    if group_by is not None and group_by not in COLUMN_BY_NAME:
        # By its meaning too: --group-by class is COCO's category_name.
        names = [column.name for column in inputs.carried]
        place = find_named(names, group_by, [column.is_text for column in inputs.carried])
        group_by = group_by if place is None else names[place]
    return ErrorTable(
        inputs.rois, maps, setting.pixel_model, inputs.map_of_roi, values, dtype,
        inputs.row_numbers, inputs.carried, group_by,
    )  # fmt: skip


def check_asked(table: ErrorTable, request: RunRequest) -> None:
    """Raise ParameterError where somebody will ask for a column that there will not be.

    Those that are measured were looked at before anything was read.
    """
    for name in request.table_columns:
        if name not in COLUMN_BY_NAME:
            table.check_column(name)


def resolve_operator(
    operator: Operator, operation: Operation, scales: Scales | None
) -> OperatorSpec:
    """One operator at one scale, from what is said of it alone."""
    node = _read_node(operation.graph, operator)
    setting = resolve_setting(operation, operator, node, scales)
    return setting.spec.at_scale(node.spatial_scale if node else single_scale(scales))


def _read_node(graph: str | None, operator: str) -> RoiNode | None:
    """The node that ``graph`` names, where it is given."""
    if graph is None:
        return None
    from roicli.pipeline.model_nodes import read_roi_node

    return read_roi_node(graph, cast("Operator", operator))


def _state_of_model(graph: str | None) -> dict[str, FileState]:
    """The file of the ``graph``, where it is given: an input like others."""
    if graph is None:
        return {}
    path = parse_address(graph).path
    check_regular_file(path)
    return {path: read_state(path)}


def open_run(
    operator: str,
    features: FeatureArgument,
    rois: FeatureArgument,
    request: RunRequest,
    rows: IntArray | None = None,
    choose: Callable[[Provider, int], Provider] = choose_provider,
    streams: bool = False,
) -> Run:
    """Open and check everything; the caller closes ``inputs``. Raises RoicliError.

    With ``rows`` (k,), ascending, the run has these RoIs alone; ``choose`` finds the provider. If
    the run ``streams``, the inputs are to be settled at its end.
    """
    check_features(features)
    model = _state_of_model(request.graph)
    node = _read_node(request.graph, operator)
    setting = resolve_setting(request, operator, node, request.spatial_scale, request.levels)
    reading: Reading = request
    turned = setting.spec.roi_columns == TURNED_COLUMNS
    unit = turned_by_preset(request) if operator == "errors" else None
    if turned:
        unit = vars(setting.spec)["angle_unit"]
    if unit is not None:
        reading = request.turned_in(unit)
    elif "image_size" in setting.spec.defaults():
        reading = SizedReading(**{one.name: getattr(request, one.name) for one in fields(Reading)})
    if node is not None:
        reading = replace(request, spatial_scale=(node.spatial_scale,))
    inputs = open_inputs(features, rois, reading, rows=rows, streams=streams)
    inputs = replace(inputs, files={**model, **inputs.files})
    if inputs.rois.turned is not None and not turned and operator != "errors":
        inputs.close()
        raise InputError(
            f"{inputs.rois_name}: RoIs are turned (cx, cy, w, h, angle), and {setting.spec.name} "
            "takes upright ones",
            "run rotated-align; or leave the angle out: --roi-columns image,cx,cy,w,h,_",
        )
    try:
        if operator == "errors":
            announce_turned(inputs)
        inputs = take_offsets(inputs, setting.spec, request.offsets, request.allow_external)
        provider = choose(request.provider, request.device_id)
        check_address_space(provider)
        _see_to_kernels(provider, operator, setting, inputs, request)
        plan_block = _plan_blocks(operator, inputs, setting, request)
        engine, plan_block = _open_engine(provider, inputs, setting, request, plan_block)
        run = Run(operator, inputs, setting, engine, plan_block, request.provider, request.group_by)
        check_asked(run.error_table(), request)
    except BaseException:
        inputs.close()
        raise
    else:
        return run


def _see_to_kernels(
    provider: Provider, operator: str, setting: Setting, inputs: Inputs, request: RunRequest
) -> None:
    """Compile what this run needs and the disk has not, and say so before; or say that a long run
    could have them.
    """
    if provider == "cpu" and request.provider == "auto":
        _tell_of_kernels(inputs, setting)
    if provider != "native":
        return
    from roicli.runtime.native import run as native

    assert inputs.pyramid is not None
    specs: list[OperatorSpec] = [setting.spec]
    if _measures_values(operator, request):
        specs += [setting.align, setting.pool]
    missing = native.missing_functions(specs, [inputs.pyramid.compute_dtype])
    if missing:
        logger.info("compiling the native kernels, the first time only")
        native.compile_functions(missing)


def _tell_of_kernels(inputs: Inputs, setting: Setting) -> None:
    """Say what would be faster, where it is installed and the run will take a while."""
    is_long = len(inputs.rois) * _row_bytes(inputs, setting) >= LONG_RUN_BYTES
    if is_long and find_spec("numba") is not None:
        logger.info(
            "--provider native, which is installed, computes the same several times as fast; "
            "ROICLI_PROVIDER=native makes it standing"
        )


def announce_turned(inputs: Inputs) -> None:
    """Say whose errors a table has where RoIs are turned."""
    if inputs.rois.turned is not None:
        logger.info(
            "RoIs are turned: the errors are those of RoI Pool on the upright boxes that enclose "
            "them"
        )


def _measures_values(operator: str, request: RunRequest) -> bool:
    """Whether RoI Pool and RoI Align run both, for the value columns."""
    return operator == "errors" or request.values


def _open_engine(
    provider: Provider,
    inputs: Inputs,
    setting: Setting,
    request: RunRequest,
    plan_block: Callable[[], int],
) -> tuple[Engine, Callable[[], int]]:
    """The provider on its device, with blocks that the host's and the device's memory allow, and
    what plans them again.
    """
    limit, strict = request.max_device_memory, request.strict_provider
    threads = usable_cores() if request.threads is None else request.threads
    if provider != "cuda":
        return Engine(provider, threads, plan_block(), chosen_device=Device(strict=strict)), (
            plan_block
        )
    assert inputs.pyramid is not None
    pyramid, row_bytes = inputs.pyramid, _row_bytes(inputs, setting)

    def plan_both() -> int:
        return min(plan_block(), plan_device(limit, pyramid, row_bytes).block_bytes)

    scratch = plan_device(limit, pyramid, row_bytes).scratch_bytes
    device = Device("cuda", request.device_id, limit, strict, resident=True)
    return Engine(provider, threads, plan_both(), scratch, device), plan_both


def _row_bytes(inputs: Inputs, setting: Setting) -> int:
    """The result of one RoI."""
    assert inputs.pyramid is not None
    channels = setting.spec.output_channels(inputs.pyramid.channels)
    values = channels * math.prod(setting.spec.output_size)
    return values * inputs.pyramid.compute_dtype.itemsize


def _plan_blocks(
    operator: str, inputs: Inputs, setting: Setting, request: RunRequest
) -> Callable[[], int]:
    """What gives the bytes of a result block that the memory budget allows."""
    budget = budget_of(request.max_memory)
    if not budget.asked:
        logger.debug(f"max memory is {budget.size >> 20:,} MiB, a quarter of the free")
    pyramid, held = inputs.pyramid, resident_bytes()
    assert pyramid is not None
    return lambda: plan_memory(
        budget,
        pyramid,
        len(inputs.rois),
        _row_bytes(inputs, setting),
        _measures_values(operator, request),
        held,
    )


def check_sampling(run: Run, spec: OperatorSpec) -> None:
    """Refuse a sampling grid that would not fit, level by level."""
    for index, level_spec in enumerate(run.scaled(spec)):
        rows = np.flatnonzero(run.inputs.map_of_roi == index)
        check_sampling_memory(
            run.inputs.rois, rows, level_spec, run.pyramid.channels,
            run.pyramid.compute_dtype, run.inputs.rois_name, run.inputs.row_numbers,
        )  # fmt: skip


def build_verifier(run: Run, spec: OperatorSpec, verify: object) -> Verifier | None:
    """What compares a sample of the result with float64; None where nobody asked for it."""
    if verify is None or verify is False:
        return None
    from roicli.pipeline.verify import Verifier, sample_size

    count = sample_size(verify)
    dtype, provider = run.pyramid.compute_dtype, run.engine.provider
    rows = run.inputs.row_numbers
    return Verifier(run.inputs.rois, run.scaled(spec), dtype, provider, count, rows)


def build_value_measurers(run: Run) -> list[ValueMeasurer]:
    """One measurer per level, filling ``run.value_columns``."""
    check_sampling(run, replace(run.setting.align, mode="max"))
    count = len(run.inputs.rois)
    run.value_columns = {column.name: np.full(count, np.nan) for column in VALUE_COLUMNS}
    pairs = zip(run.scaled(run.setting.pool), run.scaled(run.setting.align), strict=True)
    return [
        ValueMeasurer(pool, align, run.pyramid.compute_dtype, run.engine, run.value_columns)
        for pool, align in pairs
    ]
