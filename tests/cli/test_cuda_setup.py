"""What is said of CUDA where it is offered and does not load, in ONNX Runtime 1.31.1's own words.

The messages are what onnxruntime-gpu 1.31.1 gave on a machine without a GPU: without the CUDA
libraries, with them and without a driver, and with a driver that is too old.
"""

import ctypes
import json
from pathlib import Path

import onnxruntime as ort
import pytest

from roicli.runtime import cuda_libraries
from roicli.runtime import cuda_probe as cuda_setup
from roicli.runtime import session as sessions
from roicli.runtime.cuda_libraries import CUDNN, DRIVER
from roicli.runtime.cuda_probe import DRIVER_HINT, PACKAGE, REPLACE_PACKAGE, probe_cuda
from roicli.runtime.devices import CPU, CUDA
from tests.cli.running import FEATURES, ROIS, SCALE, refuse, run, succeed

MISSING = ("libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10")
SOURCE = "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:154 CudaCall"
OLD_DRIVER = (
    f"{SOURCE} CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; "
    "GPU=-1 ; hostname=vm ; file=cuda_execution_provider.cc ; line=355 ; expr=cudaSetDevice(i);\n\n"
)
NO_DEVICE = OLD_DRIVER.replace(
    "35: CUDA driver version is insufficient for CUDA runtime version",
    "100: no CUDA-capable device is detected",
)
NO_SUCH_DEVICE = (
    "cuda_execution_provider_info.cc:63 [ONNXRuntimeError] : 1 : FAIL : provider_options_utils.h"
    ' Parse Failed to parse provider option "device_id": Invalid device ID: 7, must be between 0 '
    "(inclusive) and 2 (exclusive)."
)
INTERNAL = "CUDA failure 999: unknown error ; GPU=0 ; hostname=vm ; line=1 ; expr=cudaFree(0); "


class OnTheCpu:
    """The session that ONNX Runtime makes where the CUDA libraries do not load."""

    def get_providers(self):
        return [CPU]


class OnCuda:
    """A session that opened."""

    def get_providers(self):
        return [CUDA, CPU]


class Machine:
    """What a machine has: what onnxruntime offers, libraries not found, what a session says."""

    def __init__(self, offered=True, missing=(), opens=True, says=""):
        self.names = [*([CUDA] if offered else []), CPU]
        self.missing, self.opens, self.says = missing, opens, says
        self.open_on_cpu = ort.InferenceSession

    def preload(self):
        """As ``onnxruntime.preload_dlls`` prints."""
        for name in self.missing:
            if name not in (CUDNN, DRIVER):
                why = "cannot open shared object file: No such file or directory"
                print(f"Failed to load {name}: {name}: {why}")
        if self.missing:
            print("Please follow https://onnxruntime.ai/docs/install/ to install CUDA.")

    def load(self, name, *_):
        """As ``ctypes.CDLL``."""
        if name in self.missing:
            raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    def open_session(self, model, options, providers, **arguments):
        """As ``onnxruntime.InferenceSession``."""
        if providers[0][0] != CUDA:
            return self.open_on_cpu(model, options, providers=providers, **arguments)
        if self.says:
            raise RuntimeError(self.says)
        return OnCuda() if self.opens and not self.missing else OnTheCpu()


@pytest.fixture
def machine(monkeypatch):
    """Makes this machine one as described."""
    open_on_cpu = ort.InferenceSession

    def simulate(**described):
        found = Machine(**described)
        found.open_on_cpu = open_on_cpu
        monkeypatch.setattr(ort, "get_available_providers", lambda: found.names)
        monkeypatch.setattr(ort, "preload_dlls", found.preload)
        monkeypatch.setattr(ort, "InferenceSession", found.open_session)
        monkeypatch.setattr(ctypes, "CDLL", found.load)
        cuda_libraries.load_libraries.cache_clear()

    yield simulate
    cuda_libraries.load_libraries.cache_clear()
    ort.set_default_logger_severity(2)


CASES = {
    "a build for the CPU": ({"offered": False}, "not built for CUDA", REPLACE_PACKAGE),
    "no libraries, no driver": (
        {"missing": (*MISSING, CUDNN, DRIVER)},
        "libcublasLt.so.13, libcublas.so.13, libcurand.so.10, libcudnn.so.9, libcuda.so.1 cannot",
        f"{PACKAGE}, and {DRIVER_HINT}",
    ),
    "no libraries": ({"missing": MISSING}, "libcurand.so.10 cannot be loaded", PACKAGE),
    "no driver": ({"missing": (DRIVER,)}, "libcuda.so.1 cannot be loaded", DRIVER_HINT),
    "an old driver": ({"says": OLD_DRIVER}, "CUDA failure 35: CUDA driver version", DRIVER_HINT),
    "no device": ({"says": NO_DEVICE}, "no CUDA-capable device is detected", DRIVER_HINT),
    "another device": ({"says": NO_SUCH_DEVICE}, "Invalid device ID: 7, must be", "nvidia-smi -L"),
    "a broken device": ({"says": INTERNAL}, "CUDA failure 999: unknown error", DRIVER_HINT),
    "no reason given": ({"opens": False}, "could not load CUDAExecutionProvider", PACKAGE),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_and_the_one_line_that_helps(machine, name, capfd):
    how, reason, install = CASES[name]
    machine(**how)
    status = probe_cuda(7)
    assert (status.offered, status.loads) == (how.get("offered", True), False)
    assert reason in status.reason
    assert install in status.install
    assert "\n" not in status.reason + status.install
    assert "onnxruntime_src" not in status.reason
    assert status.missing == tuple(how.get("missing", ()))
    assert capfd.readouterr() == ("", "")


def test_where_cuda_loads_nothing_is_wrong(machine):
    machine()
    assert probe_cuda() == cuda_setup.CudaStatus(True, True)
    rows = json.loads(succeed("providers", "--format", "json").text)["providers"]
    cuda = next(row for row in rows if row["name"] == "cuda")
    assert (cuda["offered"], cuda["available"], cuda["auto"]) == (True, True, True)


def test_without_cudnn_cuda_loads_and_says_what_needs_it(machine, monkeypatch):
    machine(missing=(CUDNN,))
    monkeypatch.setattr(ort, "InferenceSession", lambda *_, **__: OnCuda())
    status = probe_cuda()
    assert (status.loads, status.missing) == (True, (CUDNN,))
    assert "pool" in status.reason
    assert status.install == PACKAGE


@pytest.mark.parametrize("name", [name for name in CASES if name != "a build for the CPU"])
def test_asked_for_it_is_one_error_and_under_auto_one_note(machine, name, inputs):
    how, reason, install = CASES[name]
    machine(**how)
    words = ("provider cuda", reason, install)
    refuse("pool", FEATURES, ROIS, *SCALE, "--provider", "cuda", words=words, code=3)
    outcome = run("pool", FEATURES, ROIS, *SCALE, "--provider", "auto", "-o", "out.npy")
    notes = [line for line in outcome.errors if "CUDA" in line]
    assert outcome.code == 0
    assert len(notes) == 1
    assert reason in notes[0]
    assert "running on the CPU" in notes[0]
    machine(offered=False)
    expected = run("pool", FEATURES, ROIS, *SCALE, "--provider", "cpu", "-o", "-", "--no-table")
    assert Path("out.npy").read_bytes() == expected.out


def test_a_build_for_the_cpu_is_no_warning_under_auto(machine, inputs):
    machine(offered=False)
    outcome = run("pool", FEATURES, ROIS, *SCALE, "-o", "-", "--no-table")
    assert outcome.code == 0
    assert "CUDA" not in outcome.err
    words = (
        "provider cuda: this onnxruntime is not built for CUDA",
        "pip uninstall -y onnxruntime",
    )
    refuse("align", FEATURES, ROIS, *SCALE, "--provider", "cuda", words=words, code=3)


def test_providers_lists_what_is_missing(machine):
    machine(missing=(*MISSING, DRIVER))
    rows = json.loads(succeed("providers", "--format", "json").text)["providers"]
    cuda = next(row for row in rows if row["name"] == "cuda")
    assert cuda["missing"] == [*MISSING, DRIVER]
    assert (cuda["offered"], cuda["available"], cuda["auto"]) == (True, False, False)
    text = succeed("providers", COLUMNS="200").text
    assert f"cuda, missing: {', '.join(MISSING)}, {DRIVER}" in text
    assert f"cuda, install: {PACKAGE}" in text


@pytest.mark.parametrize("value", ["-1", "-7"])
@pytest.mark.parametrize("provider", ["cpu", "cuda", "auto"])
def test_a_device_id_below_zero_is_refused(machine, inputs, value, provider):
    machine()
    options = ("--provider", provider, "--device-id", value)
    refuse("align", FEATURES, ROIS, *SCALE, *options, words=("device id is " + value,))


def test_a_device_that_is_not_there_is_one_line(machine, inputs):
    machine(says=NO_SUCH_DEVICE)
    options = ("--provider", "cuda", "--device-id", "7")
    words = ("Invalid device ID: 7, must be between 0 (inclusive) and 2", "nvidia-smi -L")
    refuse("align", FEATURES, ROIS, *SCALE, *options, words=words, code=3)


@pytest.mark.parametrize("value", ["-3", "lots"])
def test_device_memory_is_a_number_of_bytes(inputs, value):
    refuse("align", FEATURES, ROIS, *SCALE, "--max-device-memory", value, words=("memory", value))


def test_strict_and_device_options_run_on_the_cpu(inputs):
    plain = run("errors", FEATURES, ROIS, *SCALE, "--format", "json")
    options = ("--strict-provider", "--device-id", "0", "--max-device-memory", "1G")
    for command in ("align", "pool"):
        names = ("-o", "-", "-q")
        expected = run(command, FEATURES, ROIS, *SCALE, *names)
        assert run(command, FEATURES, ROIS, *SCALE, *names, *options).out == expected.out
    strict = run("errors", FEATURES, ROIS, *SCALE, "--format", "json", *options)
    assert json.loads(strict.text)["rois"] == json.loads(plain.text)["rois"]


def test_a_strict_run_names_the_nodes_elsewhere(inputs, monkeypatch):
    monkeypatch.setattr(sessions.Session, "placement", lambda self: [("Gather g", CUDA)])
    options = ("--strict-provider", "--provider", "cpu")
    words = ("not every node runs on CPUExecutionProvider: Gather g on CUDAExecutionProvider",)
    refuse("align", FEATURES, ROIS, *SCALE, *options, words=words, code=3)


def test_libraries_in_another_folder_of_the_path_are_found(machine, monkeypatch, tmp_path):
    """NVIDIA's packages are not always beside onnxruntime, the only place where it looks."""
    (tmp_path / "nvidia" / "cu13" / "lib").mkdir(parents=True)
    (tmp_path / "nvidia" / "cudnn" / "lib").mkdir(parents=True)
    there = [
        tmp_path / "nvidia" / "cu13" / "lib" / MISSING[1],
        tmp_path / "nvidia" / "cudnn" / "lib" / CUDNN,
    ]
    for path in there:
        path.touch()
    monkeypatch.syspath_prepend(tmp_path)
    machine(missing=(*MISSING, CUDNN))
    loaded = []
    real = ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", lambda name, *_: real(name) or loaded.append(name))
    assert cuda_libraries.load_libraries() == (MISSING[0], MISSING[2])
    assert loaded == [DRIVER, *map(str, there)]
