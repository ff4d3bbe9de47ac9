"""The same bits from any number of threads, any size of the blocks, any order of the RoIs."""

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import roicli
from roicli.core.exceptions import ParameterError
from roicli.core.types import RoIs
from roicli.error_table.columns import VALUE_COLUMNS
from roicli.error_table.values import measure_value_errors
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.pipeline import stream as pipeline
from roicli.pipeline.features import open_pyramid
from roicli.runtime import runners as runtime
from roicli.storage.result import MemoryWriter
from tests.cli.running import FPN, TEXT_ROIS
from tests.options import (
    FLOAT_TYPES,
    every_option,
    need_numba,
    some,
    table_of_options,
    table_of_pools,
)
from tests.strategies import AWKWARD, awkward_corners, examples, normal_map

SCALE = 1 / 16
TABLE, PRODUCT = table_of_options((3, 5), SCALE), every_option((3, 5), SCALE)
KINDS = ["normal", "zeros of both signs", "NaN and infinity"]
PROVIDERS = ["cpu", "native"]
# Threads, bytes of scratch, RoIs a block.
WAYS = [(1, 32 << 20, 1), (3, 32 << 20, 60), (2, 1, 7), (5, 3000, 13)]


@pytest.fixture(params=PROVIDERS)
def provider(request, monkeypatch):
    """Each provider; the compiled kernels start as many threads for little as for much."""
    if request.param == "native":
        need_numba()
        monkeypatch.setattr("roicli.runtime.native.jobs.VALUES_PER_THREAD", 1)
    return request.param


def make_map(kind, dtype):
    """(19, 13, 17): 19 channels are no whole number of vectors."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(19, 13, 17))
    if kind == "zeros of both signs":
        zeros = np.where(rng.random(values.shape) < 0.5, 0.0, -0.0)
        values = np.where(rng.random(values.shape) < 0.6, zeros, -np.abs(values))
    elif kind == "NaN and infinity":
        for share, value in ((0.1, np.nan), (0.1, -np.nan), (0.05, np.inf), (0.05, -np.inf)):
            values[rng.random(values.shape) < share] = value
    return values.astype(dtype)


def run_blocks(spec, feature_map, corners, provider, threads, scratch, block):
    """(K, C, P_h, P_w) of a new runner, ``block`` RoIs at a time."""
    runner = runtime.build_runner(spec, feature_map.dtype, provider, threads, scratch)
    runner.load(feature_map)
    parts = []
    for start in range(0, len(corners), block):
        some = corners[start : start + block]
        shape = (len(some), len(feature_map), *spec.output_size)
        parts.append(np.full(shape, 7, feature_map.dtype))  # a bin left out shows
        runner.run(some, parts[-1])
    return np.concatenate(parts)


def assert_the_same_in_any_company(spec, dtype, kind, provider, ways=WAYS):
    feature_map = make_map(kind, dtype)
    corners = awkward_corners((13, 17), SCALE, 60, 3, dtype)
    expected = run_blocks(spec, feature_map, corners, provider, 1, 32 << 20, 60)
    for way in ways:
        found = run_blocks(spec, feature_map, corners, provider, *way)
        assert found.tobytes() == expected.tobytes(), (spec, dtype, kind, way)
    order = np.random.default_rng(1).permutation(60)
    found = run_blocks(spec, feature_map, corners[order], provider, 2, 3000, 25)
    assert found.tobytes() == expected[order].tobytes(), (spec, dtype, kind)


def test_a_runner_gives_a_roi_the_same_bits_in_any_company(provider):
    for number, (spec, dtype) in enumerate(TABLE):
        kind = KINDS[(number + PROVIDERS.index(provider)) % len(KINDS)]
        ways = [WAYS[number % len(WAYS)]]
        assert_the_same_in_any_company(spec, dtype, kind, provider, ways)


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_every_option_gives_the_same_bits_in_any_company(kind, provider):
    for spec, dtype in PRODUCT:
        assert_the_same_in_any_company(spec, dtype, kind, provider)


def test_a_bin_of_index_windows_that_holds_a_nan_is_nan():
    feature_map = make_map("NaN and infinity", np.float32)
    marks = np.isnan(feature_map).astype(np.float32)
    corners = awkward_corners((13, 17), SCALE, 60, 3)
    for spec, _ in table_of_pools((3, 5), SCALE)[1:]:
        found = run_blocks(spec, feature_map, corners, "cpu", 2, 3000, 60)
        holds = run_blocks(spec, marks, corners, "cpu", 2, 3000, 60)
        assert holds.any()
        np.testing.assert_array_equal(np.isnan(found), holds > 0, err_msg=str(spec))


# --- the pipeline -----------------------------------------------------------------------------

IMAGES = normal_map((3, 5, 13, 17), seed=4)
ROIS = RoIs(
    np.random.default_rng(0).integers(0, 3, 40),
    awkward_corners((13, 17), SCALE, 40, 0).astype(np.float64),
    np.zeros(40),
)
ALIGN, POOL = AlignSpec((2, 3), SCALE), PoolSpec((2, 3), SCALE, "hull")


def run_pipeline(spec, rois, images, provider="cpu", threads=2, block_bytes=32 << 20, most=1 << 29):
    """Features and value columns, as bytes that belong to a RoI."""
    pyramid = open_pyramid(images, (), (SCALE,))
    engine = pipeline.Engine(provider, threads, block_bytes)
    columns = {column.name: np.full(len(rois), np.nan) for column in VALUE_COLUMNS}
    align = spec if isinstance(spec, AlignSpec) else replace(ALIGN, output_size=spec.output_size)
    pool = spec if isinstance(spec, PoolSpec) else replace(POOL, output_size=spec.output_size)
    measurer = pipeline.ValueMeasurer(pool, align, pyramid.compute_dtype, engine, columns)
    writer = MemoryWriter((len(rois), images.shape[1], *spec.output_size), pyramid.compute_dtype)
    levels = np.zeros(len(rois), np.int64)
    kept, pipeline.WORK_A_BLOCK = pipeline.WORK_A_BLOCK, most
    try:
        pipeline.run_operator(pyramid, rois, levels, [spec], engine, writer, [measurer])
    finally:
        pipeline.WORK_A_BLOCK = kept
    return [writer.array, *columns.values()]


EXPECTED = {}


@some("spec", [(ALIGN,), (replace(ALIGN, sampling_ratio=0, mode="max"),), (POOL,),
               (PoolSpec((2, 3), SCALE),)], (ALIGN,), (POOL,), ids=repr)  # fmt: skip
@examples(6)
@given(
    order=st.permutations(range(40)),
    threads=st.integers(1, 5),
    block_bytes=st.integers(1, 5000),
    most=st.integers(1, 1 << 12),
)
def test_threads_blocks_and_order_change_no_bit(spec, order, threads, block_bytes, most):
    if spec not in EXPECTED:
        EXPECTED[spec] = run_pipeline(spec, ROIS, IMAGES)
    found = run_pipeline(spec, ROIS.take(order), IMAGES, "cpu", threads, block_bytes, most)
    for one, other in zip(found, EXPECTED[spec], strict=True):
        assert one.tobytes() == other[order].tobytes()


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_value_columns_of_a_roi_do_not_depend_on_its_neighbours(dtype):
    for size in (1, 2, 8191, 8192, 8193, 12544, 20000):
        parts = np.random.default_rng(size).normal(size=(4, 7, size, 1, 1)).astype(dtype)
        whole = measure_value_errors(*parts)
        for block in (1, 2, 3):
            for start in range(0, 7, block):
                some = measure_value_errors(*parts[:, start : start + block])
                for name, column in some.items():
                    expected = whole[name][start : start + block]
                    assert column.tobytes() == expected.tobytes(), (size, name)


# --- whole runs -------------------------------------------------------------------------------


def least_memory(operator, features, rois, **options):
    """The smallest budget that a run takes, as its own refusal says."""
    with pytest.raises(ParameterError) as refusal:
        operator(features, rois, max_memory="1M", **options)
    found = re.search(r"give --max-memory (\d+M)", str(refusal.value))
    assert found, refusal.value
    return found[1]


CALLS = {
    "align": (roicli.align, {}),
    "maximum of thirds": (roicli.align, {"mode": "max", "sampling_grid": "thirds"}),
    "adaptive": (roicli.align, {"sampling_ratio": 0}),
    "pool": (roicli.pool, {}),
    "floor": (roicli.pool, {"quantization": "floor"}),
}


def each_call(*quick):
    """Every call on every provider; the ``quick`` ones are not ``full``."""
    return some("name, provider", product(CALLS, PROVIDERS), *quick, indirect=["provider"])


@each_call(("adaptive", "native"))
def test_the_sample_data_give_the_same_file_whatever_threads_and_memory(
    name, provider, tmp_path, monkeypatch
):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    operator, options = CALLS[name]
    options = {**options, "levels": "p3,p4,p5", "provider": provider, "values": True}
    files = []
    for index, threads in enumerate((1, 2, 5, 2)):
        # The last one has as little memory as goes, which is measured as the process is then.
        memory = least_memory(operator, FPN, TEXT_ROIS, **options) if index == 3 else None
        path = tmp_path / f"{index}.h5"
        operator(FPN, TEXT_ROIS, path, threads=threads, max_memory=memory, **options)
        files.append(path.read_bytes())
    assert all(file == files[0] for file in files)


@each_call(("maximum of thirds", "cpu"), ("pool", "native"))
def test_the_sample_data_in_another_order_give_the_same_rows(name, provider):
    operator, options = CALLS[name]
    rois = np.load(TEXT_ROIS)
    order = np.random.default_rng(3).permutation(len(rois))
    options = {**options, "levels": "p3,p4,p5", "provider": provider, "values": True}
    one, other = operator(FPN, rois, **options), operator(FPN, rois[order], **options)
    assert other.roi_features.tobytes() == one.roi_features[order].tobytes()
    for column in one.errors.columns:
        if column.name != "roi":
            expected = np.asarray(one.errors.column(column.name))[order]
            assert np.asarray(other.errors.column(column.name)).tobytes() == expected.tobytes()


@pytest.mark.parametrize("operator", [roicli.align, roicli.pool])
def test_little_memory_cuts_blocks_and_changes_no_bit(operator):
    images = normal_map((1, 256, 20, 30), seed=6)
    corners = awkward_corners((20, 30), 1.0, 40, 2)
    rois = np.column_stack([np.zeros(40), corners]).astype(np.float32)
    options = {"spatial_scale": 1.0, "values": True, "ignore": AWKWARD}
    told = []
    little = operator(
        images, rois, max_memory=least_memory(operator, images, rois, **options),
        progress=lambda *numbers: told.append(numbers), **options,
    )  # fmt: skip
    assert len(told) > 3
    plenty = operator(images, rois, **options)
    assert little.roi_features.tobytes() == plenty.roi_features.tobytes()
    for column in VALUE_COLUMNS:
        one, other = (np.asarray(r.errors.column(column.name)) for r in (little, plenty))
        assert one.tobytes() == other.tobytes(), column.name
