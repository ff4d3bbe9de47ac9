"""How much goes through a device at once, so that its memory is enough."""

from __future__ import annotations

from dataclasses import dataclass

from roicli.core.exceptions import ParameterError
from roicli.pipeline.features import FeaturePyramid
from roicli.pipeline.memory import LARGEST_BLOCK_BYTES, describe_largest

# What a CUDA device's operators may take beside the result where no limit is given.
DEVICE_SCRATCH_BYTES = 256 << 20


@dataclass(frozen=True)
class DevicePlan:
    """Bytes on a device of one result block, and of what the operators need for it."""

    block_bytes: int
    scratch_bytes: int


def plan_device(limit: int | None, pyramid: FeaturePyramid, row_bytes: int) -> DevicePlan:
    """What a device may be given at once; ``limit`` is in bytes, None without one.

    On the device stand two maps (one computed on, one coming), one more as it is stored while it
    comes, and RoI Pool's copy with one row a cell. Half of the rest is for three result blocks
    (found, ordered, transposed), a quarter for the cells or samples of one run, and as much again
    for what is summed from samples. Raises ParameterError where not even one RoI fits.
    """
    largest = max(LARGEST_BLOCK_BYTES, row_bytes)
    if limit is None:
        return DevicePlan(largest, DEVICE_SCRATCH_BYTES)
    computed = max(level.computed_bytes for level in pyramid.levels)
    stored = max(pyramid.buffer_bytes)
    fixed = 3 * computed + stored
    block = (limit - fixed) // 6
    if block < row_bytes:
        needed = fixed + 6 * row_bytes
        raise ParameterError(
            f"{describe_largest(pyramid)} and one RoI need {needed >> 20:,} MiB of the device, but "
            f"--max-device-memory is {limit >> 20:,} MiB",
            f"give --max-device-memory {(needed >> 20) + 1}M or more",
        )
    return DevicePlan(min(block, largest), (limit - fixed) // 4)
