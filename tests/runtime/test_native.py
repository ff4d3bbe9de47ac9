"""The compiled kernels against ONNX Runtime, bit for bit, and against hand-checked examples.

The reference graphs are built here with ``onnx`` and NumPy, from the operators' definitions. The
bits are those of onnxruntime 1.31.1's CPU provider (RoiAlign-16, MaxRoiPool-1).
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from roicli.core.exceptions import ProviderError
from roicli.core.types import FloatArray, IntArray
from roicli.operators import geometry
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.runtime.native import jobs
from roicli.runtime.native import run as native
from tests.options import need_numba, some

need_numba()

# x1, y1, x2, y2 in image pixels with the scale and the output size: docs/semantics.md, section 6.
WORKED_EXAMPLES = [
    ("W2", (920.11, 276.99, 1049.87, 322.0), 1 / 4, (7, 7)),
    ("W8", (296.0, 192.0, 496.0, 337.0), 1 / 32, (3, 3)),
    ("W12", (0.0, 0.0, 6.0, 4.0), 1.0, (2, 2)),
    ("W13", (1.0, 2.0, 6.0, 6.0), 1.0, (2, 2)),
    ("W13", (1.0, 2.0, 7.0, 7.0), 1.0, (2, 2)),
    ("W14", (1.3, 1.2, 5.9, 6.1), 1.0, (2, 2)),
    ("W15", (0.5, 0.5, 2.5, 2.5), 1.0, (2, 2)),
    ("W15", (5.0, 5.0, 3.0, 3.0), 1.0, (2, 2)),
    ("W15", (1.0, 1.0, 3.0, 3.0), 1.0, (2, 2)),
    ("W16", (3.0, 3.0, 3.0, 3.0), 1.0, (1, 2)),
]
# (C, H, W), K, output size and scale of the random loads.
LOADS = [
    ((1, 1, 1), 40, (1, 1), 1.0),
    ((3, 1, 40), 60, (2, 3), 0.5),
    ((3, 5, 3), 60, (7, 7), 0.5),
    ((16, 4, 4), 60, (4, 4), 1.0),
    ((17, 33, 17), 300, (7, 7), 0.25),
    ((40, 17, 33), 80, (7, 5), 0.1),
    ((256, 13, 9), 30, (14, 14), 1 / 16),
    ((16, 20, 27), 1, (7, 7), 1 / 3),
    ((5, 20, 27), 0, (7, 7), 1.0),
]
POOL_RULES = [
    *product(["caffe", "floor", "round", "hull"], ["overlap", "disjoint", "floor-size"]),
    ("mmcv", "overlap"),
]
DTYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}


# --- loads ------------------------------------------------------------------------------------


def adversarial_corners(height: int, width: int) -> list[tuple[float, float, float, float]]:
    """Corners in cells: on the border, outside, crossed, of no size, tiny, huge."""
    h, w = float(height), float(width)
    return [
        (0, 0, w, h), (0, 0, w - 1, h - 1), (-1, -1, w, h), (-1, -1, -1, -1), (w, h, w, h),
        (w + 1, h + 1, w + 9, h + 9), (-9, -9, -2, -2), (-5, 1, 2, h + 5), (w - 0.5, 0, w + 7, h),
        (w, h, 0, 0), (2, 0.5, 1, 3), (1, 3, 2.5, 0.5), (0.5, 0.5, 0.5, 0.5), (1, 1, 1, 2),
        (0.25, 0.25, 0.2500001, 0.26), (-1e-7, -1e-7, 1e-7, 1e-7), (0.5, 0.5, 1.5, 1.5),
        (-2.5, -2.5, 2.5, 2.5), (-120, -130, 150, 140), (0, -90, w, 95), (-1.5, -1.5, -0.5, h),
    ]  # fmt: skip


def load(shape: tuple[int, int, int], count: int, scale: float, dtype: str, seed: int) -> Any:
    """(feature map of ``shape``, corners (count, 4) in image pixels), random and adversarial."""
    random = np.random.default_rng(seed)
    _, height, width = shape
    feature_map = random.standard_normal(shape).astype(dtype)
    middle = random.uniform(-0.3, 1.3, (count, 2)) * (width, height)
    half = np.exp(random.uniform(-4, 0, (count, 2))) * (width, height)
    corners = np.concatenate([middle - half, middle + half], axis=1)
    special = np.array(adversarial_corners(height, width))[:count]
    corners[: len(special)] = special
    return feature_map, (corners / scale).astype(dtype)


# --- the reference: ONNX Runtime --------------------------------------------------------------


def run_node(operator: str, inputs: list[Any], **attributes: Any) -> FloatArray:
    """The output of a graph of one ONNX node, opset 16, on ONNX Runtime's CPU provider."""
    names = [f"input{number}" for number in range(len(inputs))]
    kinds = [DTYPES.get(array.dtype.name, TensorProto.INT64) for array in inputs]
    node = helper.make_node(operator, names, ["output"], **attributes)
    graph = helper.make_graph(
        [node],
        operator,
        [
            helper.make_tensor_value_info(name, kind, array.shape)
            for name, kind, array in zip(names, kinds, inputs, strict=True)
        ],
        [helper.make_tensor_value_info("output", kinds[0], None)],
    )
    opset = helper.make_opsetid("", 16)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, dict(zip(names, inputs, strict=True)))[0])


def roi_align(
    feature_map: FloatArray, corners: FloatArray, spec: AlignSpec, size: tuple[int, int], ratio: int
) -> FloatArray:
    """ONNX RoiAlign, mode avg, at its own sampling points."""
    return run_node(
        "RoiAlign",
        [feature_map[None], corners, np.zeros(len(corners), np.int64)],
        mode="avg",
        output_height=size[0],
        output_width=size[1],
        sampling_ratio=ratio,
        spatial_scale=spec.spatial_scale,
        coordinate_transformation_mode="half_pixel" if spec.aligned else "output_half_pixel",
    )


def fine_grid(
    feature_map: FloatArray, corners: FloatArray, counts: IntArray, spec: AlignSpec
) -> FloatArray:
    """Mode max and thirds of RoIs of one grid ``counts`` (x, y), from RoiAlign's single samples."""
    (columns, rows), (height, width) = counts, spec.output_size
    more = spec.sampling_grid == "thirds"
    size = height * (rows + more), width * (columns + more)
    rois = geometry.fine_grid_rois(corners, np.tile(counts, (len(corners), 1)), spec)
    samples = roi_align(feature_map, rois, spec, size, 1)
    shape = (*samples.shape[:2], height, rows + more, width, columns + more)
    samples = samples.reshape(shape)[:, :, :, :rows, :, :columns]
    if spec.mode == "max":
        return np.asarray(samples.max(axis=(3, 5)))
    lines = samples[..., 0]
    for column in range(1, columns):
        lines = lines + samples[..., column]
    total = lines[:, :, :, 0]
    for row in range(1, rows):
        total = total + lines[:, :, :, row]
    return np.asarray(total / samples.dtype.type(rows * columns))


def expected_align(feature_map: FloatArray, corners: FloatArray, spec: AlignSpec) -> FloatArray:
    """RoI Align as the ONNX Runtime path defines it."""
    out = np.zeros((len(corners), len(feature_map), *spec.output_size), feature_map.dtype)
    extent = geometry.align_boxes(corners, spec)[1]
    if spec.native_to_roi_align:
        # Adaptive sampling of a crossed RoI has no points, but ONNX Runtime raises an integer
        # overflow where the number of points is negative on one axis alone.
        runs = (extent >= 0).all(axis=1) | (spec.sampling_ratio > 0)
        size, ratio = spec.output_size, spec.sampling_ratio
        out[runs] = roi_align(feature_map, corners[runs], spec, size, ratio)
        return out
    counts = geometry.sampling_counts(extent, spec)
    for grid in np.unique(counts, axis=0):
        rows = (counts == grid).all(axis=1)
        if grid.all():
            out[rows] = fine_grid(feature_map, corners[rows], grid, spec)
    return out


def expected_pool(feature_map: FloatArray, corners: FloatArray, spec: PoolSpec) -> FloatArray:
    """The maximum of every bin, one by one."""
    out = np.zeros((len(corners), len(feature_map), *spec.output_size), feature_map.dtype)
    x_axis, y_axis = geometry.quantize_rois(corners, spec)
    lefts, rights = x_axis.clipped(feature_map.shape[2])
    tops, bottoms = y_axis.clipped(feature_map.shape[1])
    for roi, row, column in np.ndindex(len(corners), *spec.output_size):
        rows = slice(tops[roi, row], bottoms[roi, row])
        cells = feature_map[:, rows, lefts[roi, column] : rights[roi, column]]
        if cells.size:
            out[roi, :, row, column] = cells.max(axis=(1, 2))
    return out


# --- what is tested ---------------------------------------------------------------------------


def compiled(
    feature_map: FloatArray, corners: FloatArray, spec: AlignSpec | PoolSpec, threads: int = 1
) -> FloatArray:
    """The native result in an array that held something else before."""
    shape = (len(corners), len(feature_map), *spec.output_size)
    out = np.full(shape, np.nan, feature_map.dtype)
    if isinstance(spec, AlignSpec):
        native.run_roi_align(feature_map, corners, spec, out, threads)
    else:
        native.run_roi_pool(feature_map, corners, spec, out, threads)
    return out


def every_operator(size: tuple[int, int], scale: float) -> list[AlignSpec | PoolSpec]:
    """Align fixed, adaptive and on the fine grid, and pool."""
    maximum = AlignSpec(size, scale, 2, mode="max")
    return [AlignSpec(size, scale, 2), AlignSpec(size, scale, 0), maximum, PoolSpec(size, scale)]


@pytest.fixture
def always_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the threads asked for, however small the load."""
    monkeypatch.setattr(jobs, "VALUES_PER_THREAD", 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_align_has_the_bits_of_onnx_runtime(dtype: str) -> None:
    for number, ratio, aligned in product(range(len(LOADS)), (0, 1, 2, 3), (True, False)):
        shape, count, size, scale = LOADS[number]
        feature_map, corners = load(shape, count, scale, dtype, number)
        spec = AlignSpec(size, scale, ratio, aligned)
        expected = expected_align(feature_map, corners, spec)
        assert np.array_equal(compiled(feature_map, corners, spec), expected), (number, spec)


FINE = list(product((0, 2, 3), (True, False), (("max", "quarters"), ("max", "thirds"),
                                               ("avg", "thirds")), DTYPES))  # fmt: skip


# Every eleventh: each value of each option.
@some("ratio, aligned, way, dtype", FINE, *FINE[::11])
def test_align_on_the_fine_grid_has_the_bits_of_single_samples(
    ratio: int, aligned: bool, way: Any, dtype: str
) -> None:
    for number, (shape, count, size, scale) in enumerate(LOADS):
        feature_map, corners = load(shape, min(count, 25), scale, dtype, number)
        spec = AlignSpec(size, scale, ratio, aligned, *way)
        expected = expected_align(feature_map, corners, spec)
        assert np.array_equal(compiled(feature_map, corners, spec), expected), number


def test_pool_has_the_bits_of_onnx_runtime() -> None:
    for number, (shape, count, size, scale) in enumerate(LOADS):
        feature_map, corners = load(shape, count, scale, "float32", number)
        rois = np.column_stack([np.zeros(len(corners), np.float32), corners])
        expected = run_node(
            "MaxRoiPool", [feature_map[None], rois], pooled_shape=size, spatial_scale=scale
        )
        found = compiled(feature_map, corners, PoolSpec(size, scale))
        assert np.array_equal(found, expected), number


@pytest.mark.parametrize("dtype", DTYPES)
def test_pool_takes_the_maximum_of_the_bins_of_every_rule(dtype: str) -> None:
    for number, (shape, count, size, scale) in enumerate(LOADS):
        feature_map, corners = load(shape, min(count, 30), scale, dtype, number)
        for rule in POOL_RULES:
            spec = PoolSpec(size, scale, *rule)
            expected = expected_pool(feature_map, corners, spec)
            assert np.array_equal(compiled(feature_map, corners, spec), expected), (number, rule)


@pytest.mark.parametrize(("name", "corners", "scale", "size"), WORKED_EXAMPLES)
@pytest.mark.parametrize("sign", [1, -1])
def test_worked_examples_have_the_bits_of_onnx_runtime(
    name: str, corners: tuple[float, ...], scale: float, size: tuple[int, int], sign: int
) -> None:
    cells = (200, 272) if name == "W2" else (16, 16) if name == "W8" else (8, 8)
    feature_map = sign * (1 + np.arange(cells[0] * cells[1], dtype=np.float32)).reshape(1, *cells)
    rois = np.array([corners], np.float32)
    for ratio in (0, 2):
        for aligned in (True, False):
            spec = AlignSpec(size, scale, ratio, aligned)
            expected = expected_align(feature_map, rois, spec)
            assert np.array_equal(compiled(feature_map, rois, spec), expected)
    pooled = run_node(
        "MaxRoiPool",
        [feature_map[None], np.insert(rois, 0, 0, axis=1)],
        pooled_shape=size,
        spatial_scale=scale,
    )
    assert np.array_equal(compiled(feature_map, rois, PoolSpec(size, scale)), pooled)


def test_worked_examples_by_eye() -> None:
    ramp = (1 + np.arange(64, dtype=np.float32)).reshape(1, 8, 8)
    maximum = AlignSpec((2, 2), 1.0, 2, True, "max")
    w14 = compiled(ramp, np.array([[1.3, 1.2, 5.9, 6.1]], np.float32), maximum)
    np.testing.assert_allclose(w14.ravel(), [23.825, 26.125, 43.425, 45.725], rtol=1e-6)
    corners = np.array([[0.5, 0.5, 2.5, 2.5], [5, 5, 3, 3], [20, 20, 30, 30]], np.float32)
    w15 = compiled(ramp, corners, PoolSpec((2, 2), 1.0))
    assert w15.reshape(3, 4).tolist() == [[19, 20, 27, 28], [46] * 4, [0] * 4]
    negative = compiled(-ramp, np.array([[1, 1, 3, 3]], np.float32), PoolSpec((2, 2), 1.0))
    assert negative.ravel().tolist() == [-10, -11, -18, -19]
    point = np.array([[3, 3, 3, 3]], np.float32)
    for ratio, aligned, expected in ((2, True, [23.5] * 2), (0, True, [0, 0]), (2, False, None)):
        w16 = compiled(ramp, point, AlignSpec((1, 2), 1.0, ratio, aligned)).ravel().tolist()
        assert w16 == (expected or [32.25, 32.75])


@pytest.mark.usefixtures("always_threads")
def test_threads_do_not_change_a_bit() -> None:
    for number, (shape, count, size, scale) in enumerate(LOADS):
        feature_map, corners = load(shape, count, scale, "float32", number)
        for spec in every_operator(size, scale):
            alone = compiled(feature_map, corners, spec)
            for threads in (2, 3, 16):
                found = compiled(feature_map, corners, spec, threads)
                assert np.array_equal(found, alone), (number, spec, threads)


@pytest.mark.usefixtures("always_threads")
def test_several_callers_at_once() -> None:
    feature_map, corners = load((40, 17, 33), 80, 0.1, "float32", 5)
    specs = every_operator((7, 5), 0.1) * 8
    alone = [compiled(feature_map, corners, spec) for spec in specs]
    with ThreadPoolExecutor(4) as executor:
        together = executor.map(lambda spec: compiled(feature_map, corners, spec, 2), specs)
        assert all(map(np.array_equal, together, alone))


def test_points_in_several_groups_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    feature_map, corners = load((17, 33, 17), 100, 0.25, "float32", 4)
    for spec in (AlignSpec((7, 7), 0.25, 0), AlignSpec((7, 7), 0.25, 0, mode="max")):
        whole = compiled(feature_map, corners, spec)
        monkeypatch.setattr(native, "POINTS_AT_ONCE", 100)
        assert np.array_equal(compiled(feature_map, corners, spec), whole)
        monkeypatch.undo()


def test_a_read_only_map_needs_no_kernel_of_its_own() -> None:
    feature_map, corners = load((16, 20, 27), 9, 1 / 3, "float32", 7)
    spec = AlignSpec((7, 7), 1 / 3)
    expected = compiled(feature_map, corners, spec)
    feature_map.flags.writeable = corners.flags.writeable = False
    assert np.array_equal(compiled(feature_map, corners, spec), expected)
    assert np.array_equal(
        compiled(feature_map, corners, PoolSpec()), expected_pool(feature_map, corners, PoolSpec())
    )


@pytest.mark.parametrize("spec", [AlignSpec(), PoolSpec()])
def test_a_prepared_kernel_is_compiled(spec: AlignSpec | PoolSpec) -> None:
    native.prepare(spec, np.float32)
    assert not native.missing_functions([spec], [np.float32])


@pytest.fixture
def code_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The module, with one empty folder of this test's own to keep code in."""
    module = import_module("roicli.runtime.native.machine_code")
    monkeypatch.setattr(module, "_folders", lambda: iter([module.Folder(str(tmp_path), False)]))
    return module


def test_code_is_kept_whole_or_not_at_all(code_cache: Any, tmp_path: Path) -> None:
    assert code_cache.find_code("f") is None
    code_cache.keep_code("f", b"machine code")
    (kept,) = tmp_path.iterdir()
    assert code_cache.find_code("f") == b"machine code"
    for damaged in (b"", b"abc", kept.read_bytes()[:-1], b"\0" + kept.read_bytes()[1:]):
        kept.write_bytes(damaged)
        assert code_cache.find_code("f") is None


@pytest.mark.parametrize("other", ["_features", "llvmlite.__version__"])
def test_code_for_another_machine_or_compiler_is_not_taken(
    other: str, code_cache: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    code_cache.keep_code("f", b"machine code")
    code_cache._key.cache_clear()
    monkeypatch.setattr(
        f"roicli.runtime.native.machine_code.{other}", (lambda: "+x") if "f" in other else ""
    )
    assert code_cache.find_code("f") is None
    code_cache._key.cache_clear()


def test_where_nothing_can_be_written_kernels_serve_this_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kernels, code_cache = map(
        import_module, ("roicli.runtime.native.kernels", "roicli.runtime.native.machine_code")
    )
    a_file = tmp_path / "file"
    a_file.touch()
    native.prepare(PoolSpec(), np.float32)
    built_now = code_cache.find_code("pool_blocks_float32"), True
    monkeypatch.setattr(kernels, "build_code", lambda *given: built_now)
    monkeypatch.setattr(
        code_cache, "_folders", lambda: iter([code_cache.Folder(str(a_file / "folder"), False)])
    )
    assert native.missing_functions([PoolSpec()], [np.float32])
    own = kernels.kernel.__wrapped__("pool_blocks", "float32")
    assert native.missing_functions([PoolSpec()], [np.float32])
    monkeypatch.setattr(kernels, "kernel", lambda name, dtype: own)
    feature_map, corners = load((17, 33, 17), 100, 0.25, "float32", 4)
    expected = expected_pool(feature_map, corners, PoolSpec((7, 7), 0.25))
    assert np.array_equal(compiled(feature_map, corners, PoolSpec((7, 7), 0.25)), expected)


def test_compiled_code_needs_nothing_of_numba_or_python() -> None:
    """Else it would not have been kept, and would be compiled in every process anew."""
    kernels = import_module("roicli.runtime.native.kernels")
    for name, dtype in product(kernels.SIGNATURES, DTYPES):
        kernels.kernel(name, dtype)
        assert kernels.is_kept(name, dtype)


@pytest.mark.parametrize(
    "wrong",
    [np.zeros(3, np.float64), np.zeros((3, 1), np.float32), np.zeros(6, np.float32)[::2]],
    ids=["dtype", "dimensions", "strides"],
)
def test_an_array_that_the_code_would_misread_is_refused(wrong: Any) -> None:
    signatures = import_module("roicli.runtime.native.signatures")
    right = [np.zeros(3, np.float32), 7]
    kinds = (signatures.REALS, signatures.WHOLE)
    real = np.dtype(np.float32)
    assert list(signatures.slots_of(right, kinds, real)) == [right[0].ctypes.data, 3, 7]
    with pytest.raises(TypeError, match="is not float32"):
        list(signatures.slots_of([wrong, 7], kinds, real))


def test_kept_kernels_run_without_numba(tmp_path: Path) -> None:
    """In a process of its own, where importing Numba fails."""
    native.prepare(PoolSpec(), np.float32)
    program = """
import sys
sys.modules["numba"] = None
import numpy as np
from roicli.runtime.native import jobs
from roicli.runtime.native import run as native
from roicli.operators.roi_pool import PoolSpec
out = np.empty((1, 1, 2, 2), np.float32)
ramp = (1 + np.arange(64, dtype=np.float32)).reshape(1, 8, 8)
corners = np.array([[0.5, 0.5, 2.5, 2.5]], np.float32)
native.run_roi_pool(ramp, corners, PoolSpec((2, 2), 1.0), out, 1)
print(out.ravel().tolist())
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (ended.stdout, ended.stderr) == ("[19.0, 20.0, 27.0, 28.0]\n", "")


def test_without_numba_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("roicli.runtime.native.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    with pytest.raises(ProviderError, match="needs Numba") as caught:
        native.missing_functions([AlignSpec()], ["float32"])
    assert caught.value.hint == "pip install 'roicli[native]'"


def test_threads_stay_and_are_no_more_than_were_needed_at_once() -> None:
    feature_map = np.zeros((64, 9, 9), np.float32)
    before = threading.active_count()
    for threads in (2, 5, 3, 8, 2, 8):
        for count in (300, 1200, 5000):
            out = np.empty((count, 64, 2, 2), np.float32)
            corners = np.zeros((count, 4), np.float32)
            native.run_roi_align(feature_map, corners, AlignSpec((2, 2)), out, threads)
    assert threading.active_count() - before <= 7


def test_a_job_that_fails_ends_the_others_and_says_so() -> None:
    """The caller's own job, that is, while its helpers are at theirs."""
    done = []

    def run(job: jobs.Job, room: object) -> None:
        if threading.current_thread() is threading.main_thread():
            raise ValueError("this one")
        done.append(job.first)
        time.sleep(0.001)

    every = [jobs.Job(first, first + 1, 0) for first in range(10_000)]
    with pytest.raises(ValueError, match="this one"):
        jobs.run_jobs(run, every, [1], np.float32, 3)
    assert len(done) < len(every) - 1
