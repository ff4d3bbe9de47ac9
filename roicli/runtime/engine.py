"""What runs the operators of a run: a provider, its device, and how much goes through at once."""

from __future__ import annotations

from typing import NamedTuple

from roicli.core.types import FloatType
from roicli.core.vocabulary import Provider
from roicli.operators.interface import OperatorSpec
from roicli.runtime.device_map import MapPlacer
from roicli.runtime.devices import Device, device_of
from roicli.runtime.runners import Runner, build_runner


class Engine(NamedTuple):
    """What runs the operators: a provider already chosen, its device, and how many threads.

    A result block takes ``block_bytes``; what the operators need beside it ``scratch_bytes``
    (None: as much).
    """

    provider: Provider
    threads: int
    block_bytes: int = 32 << 20
    scratch_bytes: int | None = None
    chosen_device: Device | None = None

    @property
    def device(self) -> Device:
        """The provider's device: the one chosen, or its first without limits."""
        return device_of(self.provider) if self.chosen_device is None else self.chosen_device

    def build_runner(self, spec: OperatorSpec, dtype: FloatType) -> Runner:
        """The runner for a spec."""
        scratch = self.block_bytes if self.scratch_bytes is None else self.scratch_bytes
        return build_runner(spec, dtype, self.provider, self.threads, scratch, self.device)

    def build_placer(self, dtype: FloatType) -> MapPlacer:
        """What puts maps where the runners read them."""
        return MapPlacer(dtype, self.device, self.threads)
