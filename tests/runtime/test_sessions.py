"""Sessions on a device: where nodes run, what happens when memory is short, what halves."""

import json
import subprocess
import sys

import numpy as np
import onnxruntime as ort
import pytest

from roicli.core.exceptions import DeviceMemoryError, ParameterError, ProviderError
from roicli.operators import graphs, roi_align, roi_pool
from roicli.operators.roi_align import AlignSpec
from roicli.operators.roi_pool import PoolSpec
from roicli.pipeline.memory import plan_device
from roicli.runtime import cuda_libraries
from roicli.runtime.device_map import MapPlacer
from roicli.runtime.devices import CPU, CUDA, HOST, Device
from roicli.runtime.runners import HalvingRunner, build_runner
from roicli.runtime.session import Session
from tests.pipeline.test_memory import MIB, pyramid
from tests.strategies import awkward_corners, normal_map

SINGLE = np.dtype(np.float32)
STRICT = Device(strict=True)
GRAPHS = {
    "align": roi_align.build_align_graph(AlignSpec(), SINGLE),
    "max": roi_align.build_align_graph(AlignSpec(mode="max"), SINGLE, (2, 3)),
    "thirds": roi_align.build_align_graph(AlignSpec(sampling_grid="thirds"), SINGLE, (2, 2)),
    "cell table": graphs.build_cell_table_graph(SINGLE),
    "pool": roi_pool.build_window_pool_graph(SINGLE, 4),
    "max-roi-pool": roi_pool.build_max_roi_pool_graph(PoolSpec()),
    "placing": graphs.build_placing_graph(np.dtype(np.float16), SINGLE),
}


# --- where nodes run --------------------------------------------------------------------------


@pytest.mark.parametrize("name", GRAPHS)
def test_a_strict_session_knows_where_every_node_runs(name):
    placed = Session(GRAPHS[name], STRICT, 1).placement()
    assert placed
    assert {provider for _, provider in placed} == {CPU}


def test_placement_is_what_a_profile_of_a_run_says(tmp_path):
    """The session's own record against the nodes that really ran."""
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    graph = GRAPHS["max"]
    session = ort.InferenceSession(graph.model, options, providers=[CPU])
    feeds = {
        "features": np.zeros((1, 2, 5, 5), np.float32),
        "corners": np.zeros((3, 4), np.float32),
        "batch_index": np.zeros(3, np.int64),
    }
    session.run(None, feeds)
    with open(session.end_profiling(), encoding="utf-8") as stream:
        events = [event for event in json.load(stream) if event.get("cat") == "Node"]
    ran = {(e["args"]["op_name"], e["args"]["provider"]) for e in events if "provider" in e["args"]}
    recorded = Session(graph, STRICT, 1).placement()
    assert ran == {(node.split()[0], provider) for node, provider in recorded}


def test_a_node_elsewhere_is_named(monkeypatch):
    placed = [("RoiAlign align_1", CUDA), ("MaxPool pool_2", CPU), ("Gather g_3", CUDA)]
    monkeypatch.setattr(Session, "placement", lambda self: placed)
    with pytest.raises(ProviderError) as caught:
        Session(GRAPHS["max"], STRICT, 1)
    assert "not every node runs on CPUExecutionProvider" in caught.value.message
    assert "RoiAlign align_1 on CUDAExecutionProvider, Gather g_3" in caught.value.message
    assert caught.value.exit_code == 3
    Session(GRAPHS["max"], HOST, 1)  # only where it was asked for


def test_a_provider_that_onnxruntime_replaced_is_an_error(monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(cuda_libraries, "load_libraries", lambda: ())
    real = ort.InferenceSession

    def replaced(model, options, providers, **arguments):
        # What 1.31.1 does where the CUDA libraries are not found: a session on the CPU.
        assert providers[0][0] == CUDA
        assert arguments == {"enable_fallback": 0}
        return real(model, options, providers=[CPU])

    monkeypatch.setattr(ort, "InferenceSession", replaced)
    with pytest.raises(ProviderError, match="could not load CUDAExecutionProvider"):
        Session(GRAPHS["align"], Device("cuda"), 1)


@pytest.mark.parametrize("index", [-1, 1.5, True, "0"])
def test_a_device_id_is_a_whole_number(index):
    with pytest.raises(ParameterError, match="device id is"):
        Device("cuda", index)


def test_what_a_cuda_session_is_told():
    assert Device("cuda", 2).providers[0][1] == {
        "device_id": "2", "arena_extend_strategy": "kSameAsRequested", "use_tf32": "0",
    }  # fmt: skip
    limited = Device("cuda", 1, memory=3 * MIB)
    assert limited.providers[0][1]["gpu_mem_limit"] == str(3 * MIB)
    assert limited.providers[1] == (CPU, {})
    shrink = {"memory.enable_memory_arena_shrinkage": "gpu:1"}
    assert limited.run_entries(keeps_memory=True) == shrink
    assert Device("cuda", 1).run_entries(keeps_memory=False) == shrink
    assert Device("cuda", 1).run_entries(keeps_memory=True) == {}
    assert HOST.run_entries(keeps_memory=False) == {}


# --- memory -----------------------------------------------------------------------------------

# Of the first two the first is the CPU provider's, as it was met; both are the arena's own words.
ARENA = (
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running RoiAlign node. "
    "Name:'RoiAlign_samples' Status Message: /onnxruntime_src/onnxruntime/core/framework/"
    "bfc_arena.cc:360 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, "
    "onnxruntime::Stream*) "
)
OUT_OF_MEMORY = [
    ARENA + "Available memory of 2081280 is smaller than requested bytes of 2508800",
    ARENA + "Failed to allocate memory for requested buffer of size 4294967296",
    "CUDA failure 2: out of memory ; GPU=0 ; hostname=h ; expr=cudaMalloc((void**)&p, size);",
    "CUDNN failure 4000: CUDNN_STATUS_ALLOC_FAILED ; GPU=0 ; hostname=h ; expr=cudnnCreate(&h);",
    "std::bad_alloc",
]


@pytest.mark.parametrize("text", OUT_OF_MEMORY)
def test_short_memory_is_an_error_of_its_own(text):
    def fail():
        raise RuntimeError(text)

    with pytest.raises(DeviceMemoryError) as caught:
        Session._checked(fail)
    assert "\n" not in str(caught.value)


def test_other_failures_are_not_about_memory():
    def fail():
        raise RuntimeError("CUDA failure 700: an illegal memory access ; GPU=0 ; line=1\n")

    with pytest.raises(ProviderError) as caught:
        Session._checked(fail)
    assert not isinstance(caught.value, DeviceMemoryError)
    assert str(caught.value) == "ONNX Runtime failed: CUDA failure 700: an illegal memory access"


class Small:
    """A runner whose device has room for ``room`` RoIs; without any, not for a map either."""

    def __init__(self, runner, room):
        self.runner, self.room, self.tried = runner, room, []

    def load(self, feature_map):
        if not self.room:
            raise DeviceMemoryError(OUT_OF_MEMORY[0])
        self.runner.load(feature_map)

    def run(self, corners, out):
        self.tried.append(len(corners))
        if len(corners) > self.room:
            out[...] = -1  # half done
            raise DeviceMemoryError(OUT_OF_MEMORY[0])
        self.runner.run(corners, out)


SPEC, MAP = PoolSpec((3, 3), 1 / 16, "hull"), normal_map((2, 13, 17))
CORNERS = awkward_corners((13, 17), 1 / 16, 50, 0)


def pooled(runner, repeat=1):
    out = np.empty((50, 2, 3, 3), np.float32)
    for _ in range(repeat):
        runner.load(MAP)
        runner.run(CORNERS, out)
    return out


def test_blocks_halve_until_they_fit_and_the_next_map_starts_there():
    runner = build_runner(SPEC, SINGLE, "cpu", 1)
    small = Small(runner, 7)
    found = pooled(HalvingRunner(small, Device("cuda", resident=True)), repeat=2)
    np.testing.assert_array_equal(found, pooled(runner))
    assert small.tried[:5] == [50, 25, 12, 6, 6]
    assert max(small.tried[4:]) == 6


@pytest.mark.parametrize(("room", "what"), [(0, "one image:"), (0.5, "one image and one RoI:")])
def test_too_little_for_one_is_an_error_that_says_what_to_do(room, what):
    small = Small(build_runner(SPEC, SINGLE, "cpu", 1), room)
    with pytest.raises(DeviceMemoryError, match="CUDA device 3 has too little memory") as caught:
        pooled(HalvingRunner(small, Device("cuda", 3, resident=True)))
    assert what in caught.value.message
    assert "--max-device-memory" in str(caught.value.hint)
    assert caught.value.exit_code == 3


def test_a_map_that_does_not_fit_is_an_error(monkeypatch):
    def refuse(self, feeds):
        raise DeviceMemoryError(OUT_OF_MEMORY[1])

    monkeypatch.setattr(Session, "run_resident", refuse)
    with pytest.raises(DeviceMemoryError, match="too little memory for one image:"):
        MapPlacer(SINGLE, Device(resident=True)).place(MAP)


REAL = """
import numpy as np, onnxruntime as ort
from roicli.runtime import runners as runtime
from roicli.runtime import session as sessions
from roicli.operators.roi_align import AlignSpec
from roicli.runtime.devices import Device
from roicli.core.exceptions import DeviceMemoryError

ort.set_default_logger_severity(4)
where = ort.OrtMemoryInfo(
    "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
)
arena = ort.OrtArenaCfg({"max_mem": 2 << 20, "arena_extend_strategy": 1})
ort.create_and_register_allocator(where, arena)
Options = ort.SessionOptions

def in_that_arena():
    options = Options()
    options.add_session_config_entry("session.use_env_allocators", "1")
    return options

def run(device, corners, scratch):
    runner = runtime.build_runner(spec, corners.dtype, "cpu", 1, scratch, device)
    out = np.empty((len(corners), 16, 7, 7), np.float32)
    runner.load(maps)
    runner.run(corners, out)
    return out, runner

spec = AlignSpec(mode="max", spatial_scale=0.5)
maps = np.random.default_rng(0).normal(size=(16, 10, 10)).astype(np.float32)
corners = np.random.default_rng(1).uniform(0, 20, (300, 4)).astype(np.float32)
expected, _ = run(Device(), corners, 1 << 30)
ort.SessionOptions = in_that_arena
found, runner = run(Device(resident=True), corners, 1 << 30)
assert np.array_equal(found, expected)
assert runner._most < 300, runner._most
try:
    spec = AlignSpec((7, 7), 0.5, 256, mode="max")
    run(Device(resident=True), corners[:1], 1 << 30)
except DeviceMemoryError as error:
    print(error)
"""


def test_onnxruntimes_own_shortage_halves_blocks_and_ends_in_one_line():
    """A real arena with a limit, which the CPU provider has too."""
    done = subprocess.run([sys.executable, "-c", REAL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    assert "the CPU has too little memory for one image and one RoI" in line
    assert "is smaller than requested bytes of" in line


def test_the_device_plan_stays_under_its_limit():
    maps = pyramid((2, 3, 400, 400))
    image, row = 3 * 400 * 400 * 4, 49 * 3 * 4
    plan = plan_device(40 * MIB, maps, row)
    assert 4 * image + 3 * plan.block_bytes + 2 * plan.scratch_bytes <= 40 * MIB
    assert plan.block_bytes >= row
    assert plan_device(80 * MIB, maps, row).scratch_bytes > plan.scratch_bytes
    assert plan_device(None, maps, row).scratch_bytes == 256 * MIB
    with pytest.raises(ParameterError, match="--max-device-memory is 4 MiB") as caught:
        plan_device(4 * MIB, maps, row)
    enough = int(str(caught.value.hint).split()[2].removesuffix("M"))
    assert plan_device(enough * MIB, maps, row).block_bytes >= row


# --- casting on the device --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float16_is_cast_as_numpy_casts_it(dtype):
    """Every float16 there is, bit for bit; NaNs stay NaNs."""
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(1, 256, 256)
    placer = MapPlacer(np.dtype(dtype), Device(resident=True))
    found = placer.place(every).value.numpy()[0]
    assert found.dtype == dtype
    nan = np.isnan(every)
    np.testing.assert_array_equal(np.isnan(found), nan)
    kind = np.uint32 if dtype == np.float32 else np.uint64
    np.testing.assert_array_equal(found[~nan].view(kind), every.astype(dtype)[~nan].view(kind))
