"""Which provider runs, and why not another; onnxruntime's offer is simulated where it matters."""

import os

import numpy as np
import pytest

import roicli
from roicli.core.exceptions import ProviderError
from roicli.core.system import usable_cores
from roicli.runtime import providers
from roicli.runtime.cuda_probe import CudaStatus, probe_cuda
from roicli.runtime.providers import choose_provider, describe_providers
from tests.log import logged
from tests.options import need_numba
from tests.strategies import normal_map

OPERATORS = ["align", "pool"]


@pytest.fixture
def offer(monkeypatch):
    """Sets what there is of CUDA, and whether Numba is there."""

    def simulate(cuda=False, loads=True, numba=True):
        reason = "" if cuda and loads else "it does not" if cuda else "not built for CUDA"
        status = CudaStatus(cuda, cuda and loads, (), reason, "pip install" if reason else "")
        asked = []
        monkeypatch.setattr(
            "roicli.runtime.cuda_probe.probe_cuda", lambda index=0: asked.append(index) or status
        )
        monkeypatch.setattr(providers, "find_spec", lambda name: object() if numba else None)
        return asked

    return simulate


def refused(requested):
    with pytest.raises(ProviderError) as caught:
        choose_provider(requested)
    assert caught.value.exit_code == 3
    return caught.value


@pytest.mark.parametrize("name", ["cpu", "native"])
def test_the_one_asked_for_runs(offer, name):
    asked = offer(cuda=True)
    assert choose_provider(name) == name
    assert asked == []  # nothing is loaded that nobody asked for


@pytest.mark.parametrize(("cuda", "loads", "notes"), [(False, True, 0), (True, False, 1)])
def test_auto_is_the_cpu_where_cuda_does_not_run(offer, cuda, loads, notes):
    offer(cuda, loads)
    with logged() as told:
        assert choose_provider("auto") == "cpu"
    assert told == ["CUDA is installed but does not load: it does not; running on the CPU"][:notes]


@pytest.mark.parametrize("requested", ["auto", "cuda"])
def test_cuda_runs_where_it_loads_on_the_device_asked_for(offer, requested):
    asked = offer(cuda=True)
    with logged() as told:
        assert choose_provider(requested, 3) == "cuda"
    assert (asked, told) == ([3], [])


def test_cuda_is_refused_with_the_reason_and_the_remedy(offer):
    offer(cuda=False)
    error = refused("cuda")
    assert "not built for CUDA" in error.message
    assert "pip install" in str(error.hint)
    offer(cuda=True, loads=False)
    assert "provider cuda: it does not" in refused("cuda").message


def test_native_is_refused_without_numba(offer):
    offer(numba=False)
    assert "needs Numba" in refused("native").message
    rows = {row.name: row for row in describe_providers()}
    assert (rows["native"].available, rows["native"].reason) == (False, "Numba is not installed")


@pytest.mark.parametrize("cuda", [True, False])
def test_one_row_a_provider_and_one_that_auto_takes(offer, cuda):
    offer(cuda)
    rows = describe_providers()
    assert [row.name for row in rows] == ["cpu", "cuda", "native"]
    assert [row.name for row in rows if row.auto] == ["cuda" if cuda else "cpu"]
    assert [row.available for row in rows] == [True, cuda, True]
    assert [row.offered for row in rows] == [True, cuda, True]
    assert all(row.reason and row.install for row in rows if not row.available)


def test_cuda_is_tried_and_not_believed():
    """Offered, but this machine cannot load it."""
    status = probe_cuda()
    if status.loads:
        pytest.skip("CUDA is here")
    assert status.reason
    assert status.install


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("options", [{}, {"quantization": "hull", "mode": "max"}])
def test_native_gives_the_bits_of_the_cpu(operator, options):
    need_numba()
    maps = normal_map((2, 3, 13, 17))
    rois = np.array([[1, 5, 6, 170, 180], [0, 1, 2, 130, 40], [1, 9, 9, 3, 3]], np.float32)
    if operator == "pool":
        options = {key: value for key, value in options.items() if key != "mode"}
    call = {"align": roicli.align, "pool": roicli.pool}[operator]
    results = [
        call(maps, rois, spatial_scale=1 / 16, provider=name, ignore="R04", **options).roi_features
        for name in ("cpu", "native")
    ]
    np.testing.assert_array_equal(*results)


def test_usable_cores_is_what_the_process_may_use():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
