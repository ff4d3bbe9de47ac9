"""The maps of a run, each read once and kept as long as visits need it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from roicli.core.progress import StageTimes
from roicli.pipeline.features import FeaturePyramid, MapBuffer
from roicli.pipeline.order import MapVisit
from roicli.runtime.device_map import MapPlacer, PlacedMap


class VisitedMaps:
    """Each visit with its map on the device, while ``reader`` reads the next one and puts it there.

    The first is begun at once. A map that is visited again later stays, in a buffer of its own;
    the others take turns in two.
    """

    def __init__(
        self,
        pyramid: FeaturePyramid,
        visits: Sequence[MapVisit],
        placer: MapPlacer,
        times: StageTimes,
        reader: ThreadPoolExecutor,
    ) -> None:
        self._pyramid, self._visits = pyramid, visits
        self._placer, self._times = placer, times
        self._last = {visit[:2]: number for number, visit in enumerate(visits)}
        self._kept = {v[:2] for number, v in enumerate(visits) if self._last[v[:2]] > number}
        self._maps: dict[tuple[int, int], tuple[PlacedMap, MapBuffer]] = {}
        self._free: list[MapBuffer] = []
        self._reader = reader
        self._ahead = self._begin(0)

    def __iter__(self) -> Iterator[tuple[MapVisit, PlacedMap]]:
        """The visits; a map given is valid until the next one is asked for."""
        for number, visit in enumerate(self._visits):
            assert self._ahead is not None
            placed = self._ahead.result()
            self._ahead = self._begin(number + 1)
            yield visit, placed
            self._leave(number)

    def _begin(self, number: int) -> Future[PlacedMap] | None:
        more = number < len(self._visits)
        return self._reader.submit(self._read, number) if more else None

    def _read(self, number: int) -> PlacedMap:
        visit = self._visits[number]
        place = visit[:2]
        if place not in self._maps:
            takes_turns = place not in self._kept and self._free
            buffer = self._free.pop() if takes_turns else MapBuffer(self._pyramid.compute_dtype)
            with self._times.measure("read"):
                level = self._pyramid.levels[visit.level]
                image = level.read_image(visit.image, buffer, self._placer.upcasts)
                self._maps[place] = self._placer.place(image), buffer
        return self._maps[place][0]

    def _leave(self, number: int) -> None:
        place = self._visits[number][:2]
        if self._last[place] > number:
            self._maps[place][0].drop_tables()
            return
        buffer = self._maps.pop(place)[1]
        if place not in self._kept:
            self._free.append(buffer)
