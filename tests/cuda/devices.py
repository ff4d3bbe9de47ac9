"""The devices that the CUDA path is tested on: the host that behaves like one, and CUDA itself."""

import pytest

from roicli.runtime.cuda_probe import probe_cuda
from roicli.runtime.devices import Device

STATUS = probe_cuda()
WHY_NOT = f"CUDA does not run here: {STATUS.reason}"
# Maps are placed, RoI Pool is standard nodes, blocks halve, as on CUDA; the nodes run on the CPU.
LIKE_CUDA = Device(resident=True, strict=True)
CUDA = Device("cuda", resident=True, strict=True)

DEVICES = [
    pytest.param(LIKE_CUDA, id="host"),
    pytest.param(
        CUDA,
        id="cuda",
        marks=[pytest.mark.cuda, pytest.mark.skipif(not STATUS.loads, reason=WHY_NOT)],
    ),
]
