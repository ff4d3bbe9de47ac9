"""Memory that CUDA copies into: pinned while it lives, ordinary where it cannot be."""

import gc

import numpy as np
import pytest

from roicli.runtime import host_memory
from roicli.runtime.devices import HOST, Device
from roicli.runtime.host_memory import allocate_block

CUDA = Device("cuda", 2, resident=True)
SHAPE, SINGLE = (5, 3, 7, 7), np.dtype(np.float32)


class Runtime:
    """The three calls of the CUDA runtime, written down; one of them may fail."""

    def __init__(self, failing=""):
        self.calls, self.failing = [], failing

    def __getattr__(self, name):
        def call(*arguments):
            plain = [getattr(value, "value", value) for value in arguments]
            self.calls.append((name, *plain))
            return 801 if name == self.failing else 0

        return call


@pytest.fixture
def runtime(monkeypatch):
    """A CUDA runtime in place of the machine's."""

    def use(found):
        monkeypatch.setattr(host_memory, "_cuda_runtime", lambda: found)
        return found

    return use


def test_a_block_is_pinned_on_its_device_as_long_as_a_view_of_it_lives(runtime):
    found = runtime(Runtime())
    block = allocate_block(CUDA, SHAPE, SINGLE)
    address, size = block.ctypes.data, block.nbytes
    assert found.calls == [("cudaSetDevice", 2), ("cudaHostRegister", address, size, 1)]
    view = block[1:]
    del block
    gc.collect()
    assert len(found.calls) == 2
    del view
    gc.collect()
    assert found.calls[2:] == [("cudaHostUnregister", address)]


@pytest.mark.parametrize("failing", ["cudaSetDevice", "cudaHostRegister"])
def test_what_cannot_be_pinned_is_ordinary(runtime, failing):
    found = runtime(Runtime(failing))
    block = allocate_block(CUDA, SHAPE, SINGLE)
    assert (block.shape, block.dtype) == (SHAPE, SINGLE)
    assert found.calls[-1][0] == failing
    del block
    gc.collect()
    assert "cudaHostUnregister" not in [name for name, *_ in found.calls]


def test_without_a_cuda_runtime_it_is_ordinary():
    assert allocate_block(CUDA, SHAPE, SINGLE).shape == SHAPE


def test_the_host_pins_nothing(runtime):
    found = runtime(Runtime())
    allocate_block(HOST, SHAPE, SINGLE)
    allocate_block(CUDA, (0, 3), SINGLE)
    assert found.calls == []
