"""Which RoI nodes belong together: those of one pyramid are one head, every other is its own.

A head's nodes compute the same on maps of other strides, one after another in the graph, and each
reads RoIs of its own: a detector shares its RoIs out among the levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from roicli.core.record import frozen
from roicli.operators.levels import level_of_scale
from roicli.pipeline.capture.sites import RoiSite


@frozen
class Head:
    """RoI nodes whose maps are the levels of one pyramid, finest first, or one node alone.

    ``numbers`` are the levels': log2 of the strides, or from 0 where a stride is no power of two.
    """

    name: str
    sites: tuple[RoiSite, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        """The number of each level, as ``--level-from`` has it."""
        levels = [level_of_scale(site.spatial_scale) for site in self.sites]
        found = [level for level in levels if level is not None]
        if len(found) < len(self.sites) or any(b != a + 1 for a, b in pairwise(found)):
            return tuple(range(len(self.sites)))
        return tuple(found)

    @property
    def levels(self) -> tuple[str, ...]:
        """What the map of each level is called: p4 is of stride 16."""
        plain = [level_of_scale(site.spatial_scale) for site in self.sites]
        if None in plain or len(set(plain)) < len(plain):
            return tuple(f"m{number}" for number in range(len(self.sites)))
        return tuple(
            f"p{level}" if level >= 0 else f"m{-level}" for level in plain if level is not None
        )

    @property
    def first(self) -> RoiSite:
        """The finest level's node, which computes what all do."""
        return self.sites[0]


def find_heads(sites: Sequence[RoiSite]) -> tuple[Head, ...]:
    """The heads of some nodes, in the order of their first ones."""
    groups: list[list[RoiSite]] = []
    open_groups: dict[Any, list[RoiSite]] = {}
    for site in sites:
        key = _key(site)
        group = open_groups.get(key)
        if group is None or not _goes_with(site, group):
            group = open_groups[key] = []
            groups.append(group)
        group.append(site)
    split = [part for group in groups for part in _as_pyramids(group)]
    return tuple(
        Head(f"head{number}", tuple(sorted(group, key=lambda site: -site.spatial_scale)))
        for number, group in enumerate(split)
    )


def _key(site: RoiSite) -> Any:
    """What the nodes of a pyramid have in common."""
    own = {name: value for name, value in site.options.items() if name != "spatial_scale"}
    return site.op_type, site.inside, repr(sorted(own.items()))


def _goes_with(site: RoiSite, group: Sequence[RoiSite]) -> bool:
    if site.operator == "crop-and-resize":
        return False
    return all(
        site.features != one.features
        and site.rois != one.rois
        and site.spatial_scale != one.spatial_scale
        for one in group
    )


def _as_pyramids(group: list[RoiSite]) -> list[list[RoiSite]]:
    """The group, or each of its nodes alone where their strides are no levels of a pyramid."""
    levels = sorted(level_of_scale(s.spatial_scale) or 0 for s in group)
    if any(level_of_scale(site.spatial_scale) is None for site in group):
        return [group]
    if all(b == a + 1 for a, b in pairwise(levels)):
        return [group]
    return [[site] for site in group]
