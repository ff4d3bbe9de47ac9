"""The RoIs of a run cut into blocks for several machines: by image, with as many RoIs in each.

RoIs are taken image by image, in the images' order, and that sequence is cut. A cut moves to the
nearest end of an image where that is within half a block, so an image is read by two blocks only
where it has more RoIs than a block's share. The blocks are a function of ``batch_index`` and the
number of blocks alone: machines that never talk agree on them.
"""

from __future__ import annotations

import itertools
import os
import re

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.types import IntArray
from roicli.storage.shard import Shard


def parse_shard(text: str) -> Shard:
    """``I/N`` to a shard, or ``slurm`` or ``slurm/N`` to that of a Slurm array's task. Raises
    ParameterError.
    """
    found = re.fullmatch(r"(slurm|[0-9]{1,9})(?:/([0-9]{1,9}))?", str(text))
    if found is None or (found[1] != "slurm" and found[2] is None):
        raise ParameterError(
            f"shard is {text!r}, expected I/N, like 2/8 for the second of eight, or slurm"
        )
    if found[1] != "slurm":
        return Shard(int(found[1]), int(found[2]))
    number, first, last, count = (
        _read_slurm(f"SLURM_ARRAY_TASK_{name}") for name in ("ID", "MIN", "MAX", "COUNT")
    )
    if found[2] is None and (first, count) != (1, last):
        # An array of some tasks that run again does not say of how many they are.
        raise ParameterError(
            f"shard is slurm, and the array has {count} tasks from {first} to {last}",
            "submit --array=1-N, or say how many there are: --shard slurm/N",
        )
    return Shard(number, int(found[2] or count))


def _read_slurm(name: str) -> int:
    text = os.environ.get(name, "")
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ParameterError(
            f"shard is slurm, and {name} is {text!r}: this is no task of a Slurm array",
            "submit it with sbatch --array=1-N, or give --shard I/N",
        )
    return int(text)


def order_by_image(batch_index: IntArray) -> IntArray:
    """(K,) row numbers, image by image, and in an image in the RoIs' order."""
    return np.argsort(batch_index, kind="stable")


def cut_into_blocks(ordered_images: IntArray, count: int) -> IntArray:
    """(count + 1,) where the blocks begin and end in RoIs (K,) ordered by image.

    Block i is ``cuts[i]`` to ``cuts[i + 1]``. It has at most twice its share of K / count, rounded
    up, and may be empty where there are more blocks than RoIs or images are large.
    """
    total = len(ordered_images)
    # Whole numbers: K * count stays far below 2**63.
    wanted = np.arange(count + 1, dtype=np.int64) * total // count
    starts = np.flatnonzero(np.diff(ordered_images)) + 1
    ends = np.concatenate([[0], starts, [total]]).astype(np.int64)
    after = np.searchsorted(ends, wanted)
    before = np.maximum(after - 1, 0)
    nearest = np.where(wanted - ends[before] < ends[after] - wanted, ends[before], ends[after])
    is_near = 2 * count * np.abs(nearest - wanted) <= total
    return np.where(is_near, nearest, wanted)


def split_rows(batch_index: IntArray, count: int) -> list[IntArray]:
    """The rows of each of ``count`` blocks, ascending; every row is in exactly one."""
    order = order_by_image(batch_index)
    cuts = cut_into_blocks(batch_index[order], count)
    return [np.sort(order[start:stop]) for start, stop in itertools.pairwise(cuts)]


def rows_of_shard(batch_index: IntArray, shard: Shard) -> IntArray:
    """The rows (k,) of one block, ascending."""
    order = order_by_image(batch_index)
    cuts = cut_into_blocks(batch_index[order], shard.count)
    return np.sort(order[cuts[shard.number - 1] : cuts[shard.number]])


def cut_at_multiples(total: int, count: int, step: int) -> list[tuple[int, int]]:
    """Rows 0 to ``total`` as ``count`` neighbouring blocks (start, stop) of whole steps, as even as
    steps allow; the last step may be shorter, and blocks may be empty.
    """
    steps = -(-total // step)
    cuts = [min(steps * number // count * step, total) for number in range(count + 1)]
    return list(itertools.pairwise(cuts))
