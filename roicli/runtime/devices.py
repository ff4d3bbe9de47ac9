"""Where sessions run: the host, or one CUDA device, and what they are told about it."""

from __future__ import annotations

from typing import Literal, assert_never

from roicli.core.exceptions import ParameterError
from roicli.core.record import frozen
from roicli.core.vocabulary import Provider

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@frozen
class Device:
    """One device of one execution provider.

    ``index`` numbers CUDA devices; ``memory`` bounds what one session takes on it, in bytes (None:
    what there is); ``strict`` refuses a session with a node on another provider. A ``resident``
    device is what CUDA is: a map is put on it once and stays, RoI Pool runs as standard nodes, and
    a block that its memory is too small for is halved. Tests run the host that way.
    """

    kind: Literal["cpu", "cuda"] = "cpu"
    index: int = 0
    memory: int | None = None
    strict: bool = False
    resident: bool = False

    def __post_init__(self) -> None:
        whole = isinstance(self.index, int) and not isinstance(self.index, bool)
        if not whole or self.index < 0:
            raise ParameterError(
                f"device id is {self.index!r}, expected a whole number of at least 0",
                "nvidia-smi -L lists the devices",
            )

    def __str__(self) -> str:
        return "the CPU" if self.kind == "cpu" else f"CUDA device {self.index}"

    @property
    def execution_provider(self) -> str:
        """The name that ONNX Runtime gives the provider."""
        return CUDA if self.kind == "cuda" else CPU

    @property
    def providers(self) -> list[tuple[str, dict[str, str]]]:
        """What a session is to run on, the device first; ONNX Runtime wants the CPU last."""
        if self.kind == "cpu":
            return [(CPU, {})]
        # An arena that grows by what is asked for, so that the limit is not met by rounding up.
        # TF32, the default for a product of matrices, keeps 10 bits of a float32's 23.
        options = {
            "device_id": str(self.index),
            "arena_extend_strategy": "kSameAsRequested",
            "use_tf32": "0",
        }
        if self.memory is not None:
            options["gpu_mem_limit"] = str(self.memory)
        return [(CUDA, options), (CPU, {})]

    def run_entries(self, keeps_memory: bool) -> dict[str, str]:
        """Configuration of every run; a session that does not keep memory gives back what is idle.

        Each session has an arena of its own. With a limit none keeps any, so that the sum of all
        stays what was planned.
        """
        if self.kind == "cpu" or (keeps_memory and self.memory is None):
            return {}
        return {"memory.enable_memory_arena_shrinkage": f"gpu:{self.index}"}


HOST = Device()


def device_of(provider: Provider) -> Device:
    """The device of a provider already chosen, without limits. Raises ParameterError for auto."""
    match provider:
        case "cuda":
            return Device("cuda", resident=True)
        case "cpu" | "native":
            return HOST
        case "auto":
            raise ParameterError("provider auto is no device: one is to be chosen first")
        case _:
            assert_never(provider)
