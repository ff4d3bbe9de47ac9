"""How much memory a run may take, here and on a device, and how many RoIs go through at once.

What grows with the data is bounded: two maps, two result blocks, and what the operators need for a
block. What is left over the budget's fixed part is divided among the blocks; what they do not take
is room for images that share a chunk.
"""

from __future__ import annotations

from typing import NamedTuple

from roicli.core.exceptions import ParameterError, ProviderError
from roicli.core.system import available_bytes, limit_of, resident_bytes
from roicli.core.vocabulary import Provider
from roicli.pipeline.features import FeaturePyramid
from roicli.storage.result import SHARD_BYTES

# Libraries and ONNX Runtime's own allocations that a run adds to what the process has at its start.
LIBRARIES_BYTES = 64 << 20
NATIVE_ADDRESS_SPACE = 768 << 20
# RoIs, their levels and the columns that the summary keeps.
BYTES_PER_ROI = 256
# The errors of so many RoIs are kept once computed.
KEPT_ERRORS_BYTES = 48 << 20
LARGEST_BLOCK_BYTES = 32 << 20
# Result blocks in flight: one computed, one written, and the operators' own room.
BLOCKS = 4
# Measuring values holds four results and their float64 differences besides.
BLOCKS_WITH_VALUES = 20


def check_address_space(provider: Provider) -> None:
    """Raise ProviderError where LLVM has no room: out of memory, it ends the process itself."""
    limit = limit_of("address space")
    if provider == "native" and limit is not None and limit < NATIVE_ADDRESS_SPACE:
        raise ProviderError(
            f"provider native needs {NATIVE_ADDRESS_SPACE >> 20} MiB of address space, "
            f"the limit is {limit >> 20} MiB",
            "raise it with ulimit -v, or give --provider cpu",
        )


def default_budget() -> int:
    """A quarter of what the machine has free."""
    return available_bytes() // 4


class Budget(NamedTuple):
    """How many bytes a run may take; ``asked`` says that somebody set them."""

    size: int
    asked: bool

    def __str__(self) -> str:
        if self.asked:
            return f"--max-memory is {self.size >> 20:,} MiB"
        return f"--max-memory is {self.size >> 20:,} MiB by itself, a quarter of the free"


def budget_of(max_memory: int | None) -> Budget:
    """The budget of the option ``max_memory`` in bytes."""
    return Budget(default_budget(), False) if max_memory is None else Budget(max_memory, True)


def find_shard_bytes(max_memory: int | None) -> int:
    """Bytes of a shard of a Zarr result: its rows, encoded and not, take a quarter of the budget.

    What is free at the moment does not count: two runs of one command write the same files.
    """
    return SHARD_BYTES if max_memory is None else min(SHARD_BYTES, max_memory // 16)


def plan_memory(
    budget: Budget,
    pyramid: FeaturePyramid,
    rois: int,
    row_bytes: int,
    with_values: bool,
    held: int | None = None,
) -> int:
    """Bytes of one result block, which keep the peak under ``budget``.

    ``held`` bytes are taken before the run; those that are taken now, unless it is said. Raises
    ParameterError where not even one image and one RoI fit, saying what would.
    """
    maps = 2 * max(pyramid.buffer_bytes)
    # RoI Pool by index windows and the compiled kernels rearrange a map once.
    rearranged = max(level.computed_bytes for level in pyramid.levels)
    errors = min(rois * BYTES_PER_ROI * 2, KEPT_ERRORS_BYTES)
    held = resident_bytes() if held is None else held
    fixed = held + LIBRARIES_BYTES + maps + rearranged + rois * BYTES_PER_ROI + errors
    parts = BLOCKS_WITH_VALUES if with_values else BLOCKS
    most = (budget.size - fixed) // parts
    if most < row_bytes:
        needed = fixed + parts * row_bytes
        raise ParameterError(
            f"{describe_largest(pyramid)} and one RoI need {needed >> 20:,} MiB, but {budget}",
            f"give --max-memory {(needed >> 20) + 1}M or more",
        )
    block = min(most, max(LARGEST_BLOCK_BYTES, row_bytes))
    # Images that share a chunk are read together, as far as the rest goes.
    rest = budget.size - fixed - parts * block
    for level in pyramid.levels:
        level.keep_images(rest // len(pyramid.levels), budget)
    return block


def describe_largest(pyramid: FeaturePyramid) -> str:
    """The map that takes most, in words: its file and the shape of an image."""
    sizes = pyramid.buffer_bytes
    level = pyramid.levels[sizes.index(max(sizes))]
    return f"{level.stored.name}: one image of shape {tuple(level.shape[1:])}"


# What a CUDA device's operators may take beside the result where no limit is given.
DEVICE_SCRATCH_BYTES = 256 << 20


class DevicePlan(NamedTuple):
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
