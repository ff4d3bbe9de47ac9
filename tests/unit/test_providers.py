"""Which provider runs, and why not another; onnxruntime's offer is simulated where it matters."""

import os

import numpy as np
import onnxruntime
import pytest

import roicli
from roicli import providers, sessions
from roicli.exceptions import ProviderError
from roicli.providers import choose_provider, describe_providers
from tests.strategies import normal_map

OPERATORS = ["align", "pool"]


@pytest.fixture
def offer(monkeypatch):
    """Sets what onnxruntime offers, whether CUDA loads, and whether Numba is there."""

    def simulate(cuda=False, loads=True, numba=True):
        names = ["CPUExecutionProvider"]
        names[:0] = ["CUDAExecutionProvider"] if cuda else []
        monkeypatch.setattr("onnxruntime.get_available_providers", lambda: names)
        monkeypatch.setattr("roicli.sessions.loads_cuda", lambda: loads)
        monkeypatch.setattr(providers, "find_spec", lambda name: object() if numba else None)

    return simulate


def refused(requested, operator):
    with pytest.raises(ProviderError) as caught:
        choose_provider(requested, operator)
    assert caught.value.exit_code == 3
    return caught.value


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", ["cpu", "native"])
def test_the_one_asked_for_runs(offer, operator, name):
    offer(cuda=True)
    assert choose_provider(name, operator) == name


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(("cuda", "loads"), [(False, True), (True, False)])
def test_auto_is_the_cpu_where_cuda_does_not_run(offer, operator, cuda, loads):
    offer(cuda, loads)
    assert choose_provider("auto", operator) == "cpu"


def test_auto_is_cuda_for_align_and_says_that_pool_runs_on_the_cpu(offer):
    offer(cuda=True)
    notes = []
    assert choose_provider("auto", "align", notes.append) == "cuda"
    assert notes == []
    assert choose_provider("auto", "pool", notes.append) == "cpu"
    assert notes == ["ONNX Runtime has no MaxRoiPool on CUDA; pool runs on the CPU"]


def test_cuda_is_refused_with_the_reason_and_the_remedy(offer):
    offer(cuda=False)
    error = refused("cuda", "align")
    assert "not built for CUDA; there is: CPUExecutionProvider" in error.message
    assert "pip install" in str(error.hint)
    offer(cuda=True, loads=False)
    assert "cannot be loaded" in refused("cuda", "align").message
    assert "no MaxRoiPool on CUDA" in refused("cuda", "pool").message


def test_native_is_refused_without_numba(offer):
    offer(numba=False)
    assert "needs Numba" in refused("native", "pool").message
    rows = {row.name: row for row in describe_providers()}
    assert (rows["native"].available, rows["native"].reason) == (False, "Numba is not installed")


@pytest.mark.parametrize("cuda", [True, False])
def test_one_row_a_provider_and_one_that_auto_takes(offer, cuda):
    offer(cuda)
    rows = describe_providers()
    assert [row.name for row in rows] == ["cpu", "cuda", "native"]
    assert [row.name for row in rows if row.auto] == ["cuda" if cuda else "cpu"]
    assert [row.available for row in rows] == [True, cuda, True]
    assert all(row.reason and row.install for row in rows if not row.available)


def test_cuda_is_tried_and_not_believed():
    # offered, but this machine's onnxruntime cannot load it
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("CUDA is here")
    assert sessions.loads_cuda() is False


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("options", [{}, {"quantization": "hull", "mode": "max"}])
def test_native_gives_the_bits_of_the_cpu(operator, options):
    pytest.importorskip("numba")
    maps = normal_map((2, 3, 13, 17))
    rois = np.array([[1, 5, 6, 170, 180], [0, 1, 2, 130, 40], [1, 9, 9, 3, 3]], np.float32)
    if operator == "pool":
        options = {key: value for key, value in options.items() if key != "mode"}
    call = {"align": roicli.align, "pool": roicli.pool}[operator]
    results = [
        call(maps, rois, spatial_scale=1 / 16, provider=name, **options).roi_features
        for name in ("cpu", "native")
    ]
    np.testing.assert_array_equal(*results)


def test_usable_cores_is_what_the_process_may_use():
    assert 1 <= providers.usable_cores() <= (os.cpu_count() or 1)
