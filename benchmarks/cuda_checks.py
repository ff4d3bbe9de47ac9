"""What must hold on a device: results equal to the CPU's, and every node on the device."""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np
from cuda_loads import Loads

from roicli.core.declaration import settle
from roicli.core.operator_table import OPERATORS
from roicli.core.types import Array, RoIs
from roicli.core.vocabulary import Partition, Quantization
from roicli.error_table.columns import VALUE_COLUMNS
from roicli.operators import graphs, roi_align, roi_pool
from roicli.operators.interface import OperatorSpec
from roicli.operators.libraries import ROWS
from roicli.operators.pool_windows import find_windows
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.pipeline.features import open_pyramid
from roicli.pipeline.request import RunRequest
from roicli.pipeline.settings import resolve_setting
from roicli.pipeline.stream import ValueMeasurer, run_operator
from roicli.runtime import pool_runner as window_runner
from roicli.runtime.devices import HOST, Device
from roicli.runtime.engine import Engine
from roicli.runtime.onnx_runtime import ort
from roicli.runtime.runners import build_runner
from roicli.storage.result import MemoryWriter

ALIGN_LIMIT = 1e-5  # of the map's range


@dataclass(frozen=True)
class Row:
    """One check: what, on what, how far from the CPU's result, whether that is near enough."""

    what: str
    on: str
    distance: float
    passed: bool
    note: str = ""

    def line(self) -> str:
        """A row of the table."""
        verdict = "pass" if self.passed else "**FAIL**"
        return f"| {self.what} | {self.on} | {self.distance:.2e} | {verdict}{self.note} |"


def compute(
    spec: OperatorSpec, feature_map: Array, numbers: Array, dtype: np.dtype, device: Device
) -> Array:
    """(K, C, P_h, P_w) on a device; ``numbers`` (K, n) are what the operator reads of a RoI."""
    runner = build_runner(spec, dtype, device.kind, 2, 64 << 20, device)
    channels = spec.output_channels(len(feature_map))
    out = np.full((len(numbers), channels, *spec.output_size), np.nan, dtype)
    runner.load(feature_map)
    runner.run(numbers.astype(dtype), out)
    return out


def compare(
    what: str,
    spec: OperatorSpec,
    load: str,
    values: tuple[Array, Array],
    dtype: str,
    device: Device,
) -> Row:
    """One operator on one load against the CPU as it is used there; ``dtype`` as it is stored."""
    feature_map, corners = values
    stored = feature_map.astype(dtype)
    wide = np.dtype(np.float64 if dtype == "float64" else np.float32)
    expected = compute(spec, stored.astype(wide), corners, wide, HOST)
    found = compute(spec, stored, corners, wide, device)
    with np.errstate(invalid="ignore"):  # a fill may be infinite
        apart = np.where(found == expected, 0, np.abs(found - expected))
    distance = float(apart.max()) / float(np.ptp(stored.astype(wide)))
    equal = bool(np.array_equal(found, expected))
    near = equal if isinstance(spec, PoolSpec) else distance <= ALIGN_LIMIT
    return Row(what, f"{load}, {dtype}", distance, near, ", same bits" if equal else "")


def pool_specs(scale: float) -> Iterator[tuple[str, PoolSpec]]:
    """Every rule of RoI Pool."""
    for quantization, partition in product(get_args(Quantization), get_args(Partition)):
        if quantization != "mmcv" or partition == "overlap":
            yield (
                f"pool {quantization} {partition}",
                PoolSpec((7, 7), scale, quantization, partition),
            )


def align_specs(scale: float) -> Iterator[tuple[str, AlignSpec]]:
    """Average and true maximum, quarters and thirds, both alignments, fixed and adaptive."""
    choices = product(("avg", "max"), ("quarters", "thirds"), (True, False), (2, 0))
    for mode, grid, aligned, ratio in choices:
        words = [mode, grid, "half-pixel" if aligned else "legacy", f"ratio {ratio or 'adaptive'}"]
        yield f"align {', '.join(words)}", AlignSpec((7, 7), scale, ratio, aligned, mode, grid)


def other_specs(scale: float) -> Iterator[tuple[str, OperatorSpec]]:
    """The other operators as they are by default, and a preset of each rule that runs by one."""
    setting = {"spatial_scale": scale, "output_size": (2, 2)}
    plain = [(name, {}) for name in OPERATORS if name not in ("align", "pool")]
    rows = {
        row.convention: row
        for row in ROWS
        if row.runs and (row.operator not in ("align", "pool") or not row.options())
    }
    presets = [(row.operator, {"preset": row.name}) for row in rows.values()]
    for operator, said in plain + presets:
        request = settle(RunRequest, {**setting, **said})
        spec = resolve_setting(request, operator, None, request.spatial_scale).spec
        yield f"{operator} {said.get('preset', 'by default')}", spec.at_scale(scale)


def numbers_for(spec: OperatorSpec, corners: Array) -> Array:
    """(K, n): the boxes (K, 4), turned and with moved bins where the operator has such RoIs."""
    rng, count = np.random.default_rng(3), len(corners)
    size = corners[:, 2:] - corners[:, :2]
    angles = rng.uniform(-90, 90, (count, 1))
    turned = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, size, angles], axis=1)
    offsets = rng.normal(0, 0.1, (count, *spec.offset_shape)) if spec.offset_shape else None
    return spec.numbers_of(
        RoIs(np.zeros(count, np.int64), corners, np.zeros(count), turned, offsets)
    )


def check_parity(loads: Loads, device: Device, out_of_time: Callable[[], bool]) -> list[Row]:
    """Every operator and rule on awkward boxes, the default ones on real data and on large maps."""
    rows: list[Row] = []
    specs = [*pool_specs(loads.awkward_scale), *align_specs(loads.awkward_scale)]
    for (what, spec), dtype in product(specs, ("float32", "float64", "float16")):
        # An adaptive fine grid is a session a grid: one type of them is enough.
        many_sessions = getattr(spec, "sampling_ratio", 2) == 0 and not spec.native_to_roi_align
        if out_of_time() or (many_sessions and dtype != "float32"):
            continue
        rows.append(compare(what, spec, "awkward boxes", loads.awkward, dtype, device))
    feature_map, corners = loads.awkward
    for what, spec in other_specs(loads.awkward_scale):
        if not out_of_time():
            values = feature_map, numbers_for(spec, corners)
            rows.append(compare(what, spec, "awkward boxes", values, "float32", device))
    defaults: list[tuple[str, OperatorSpec]] = [
        ("pool caffe overlap", PoolSpec()), ("align avg, ratio 2", AlignSpec()),
        ("align avg, adaptive", AlignSpec(sampling_ratio=0)),
        ("align max, ratio 2", AlignSpec(mode="max")),
    ]  # fmt: skip
    for name, (scale, values) in loads.large.items():
        for what, spec in defaults:
            if not out_of_time():
                scaled = replace(spec, spatial_scale=scale)
                rows.append(compare(what, scaled, name, values, "float32", device))
    rows += check_attribution(loads, device)
    return rows


def check_attribution(loads: Loads, device: Device) -> list[Row]:
    """The value columns of a pyramid: pool, align and warp on the same resident maps."""
    results = []
    for engine in (Engine("cpu", 2), Engine(device.kind, 2, chosen_device=device)):
        pyramid = open_pyramid(loads.pyramid, (), loads.pyramid_scales)
        rois = loads.pyramid_rois
        columns = {column.name: np.full(len(rois), np.nan) for column in VALUE_COLUMNS}
        aligns = [AlignSpec(spatial_scale=scale) for scale in loads.pyramid_scales]
        pools = [PoolSpec(spatial_scale=scale) for scale in loads.pyramid_scales]
        dtype = pyramid.compute_dtype
        measurers = [
            ValueMeasurer(pool, align, dtype, engine, columns)
            for pool, align in zip(pools, aligns, strict=True)
        ]
        writer = MemoryWriter((len(rois), pyramid.channels, 7, 7), dtype)
        run_operator(
            pyramid, rois, np.arange(len(rois)) % len(aligns), aligns, engine, writer, measurers
        )
        results.append((writer.array, columns))
    (expected, wanted), (found, got) = results
    spread = float(max(np.ptp(level) for level in loads.pyramid))
    distance = float(np.abs(found - expected).max()) / spread
    rows = [Row("align of a pyramid", "three levels", distance, distance <= ALIGN_LIMIT)]
    for column in VALUE_COLUMNS:
        both = np.isfinite(wanted[column.name])
        same = bool(np.array_equal(np.isfinite(got[column.name]), both))
        off = float(np.abs(got[column.name] - wanted[column.name])[both].max(initial=0.0))
        size = float(np.abs(wanted[column.name])[both].max(initial=1.0))
        rows.append(Row(column.name, "three levels", off / size, same and off / size <= 1e-3))
    return rows


def check_placement(loads: Loads, device: Device) -> tuple[list[str], bool]:
    """Which provider ran each node, by a profile of a run: table rows, and whether it is right."""
    feature_map, corners = loads.awkward
    features, single = feature_map[None].astype(np.float32), np.dtype(np.float32)
    boxes = {"features": features, "corners": corners.astype(np.float32),
             "batch_index": np.zeros(len(corners), np.int64)}  # fmt: skip
    spec = PoolSpec((7, 7), loads.awkward_scale)
    windows = find_windows(corners.astype(np.float32), spec, features.shape[2:])
    pooling = window_runner.describe(windows, (len(corners), 7, 7))
    table = features.transpose(0, 2, 3, 1).reshape(-1, features.shape[1])
    align = AlignSpec(spatial_scale=loads.awkward_scale)
    cases = {
        "a map placed": (graphs.build_placing_graph(single, single), {"features": features}),
        "a float16 map placed": (
            graphs.build_placing_graph(np.dtype(np.float16), single),
            {"features": features.astype(np.float16)},
        ),
        "the cell table": (graphs.build_cell_table_graph(single), {"features": features}),
        "RoI Pool": (
            roi_pool.build_window_pool_graph(single, len(pooling["lengths"])),
            {"cell_table": np.ascontiguousarray(table), **pooling},
        ),
        "RoI Align": (roi_align.build_align_graph(align, single), boxes),
        "RoI Align, true max": (
            roi_align.build_align_graph(replace(align, mode="max"), single, (2, 2)), boxes,
        ),
        "RoI Align, thirds": (
            roi_align.build_align_graph(replace(align, sampling_grid="thirds"), single, (2, 2)),
            boxes,
        ),
    }  # fmt: skip
    lines, right = [], True
    for name, (graph, feeds) in cases.items():
        ran = profile(graph, feeds, device)
        right &= bool(ran) and {provider for _, provider in ran} == {device.execution_provider}
        by_provider: dict[str, list[str]] = {}
        for (op, provider), count in sorted(ran.items()):
            by_provider.setdefault(provider, []).append(f"{count} {op}")
        lines += [f"| {name} | {p} | {', '.join(ops)} |" for p, ops in by_provider.items()]
    return lines, right


def profile(
    graph: graphs.Graph, feeds: dict[str, Array], device: Device
) -> Counter[tuple[str, str]]:
    """How often each (operator, provider) ran in one run."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(
            graph.model, options, providers=device.providers, enable_fallback=0
        )
        session.run(None, feeds)
        events: Sequence[dict] = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    ran = Counter()
    for event in events:
        facts = event.get("args", {})
        if event.get("cat") == "Node" and "provider" in facts:
            ran[facts["op_name"], facts["provider"]] += 1
    return ran
