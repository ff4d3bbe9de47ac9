"""ONNX Runtime sessions on one device.

Feeds and results are bound, not copied, where they are on the session's device already. A binding
holds raw pointers, so a run keeps every array alive until the session is done.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from roicli.core.exceptions import DeviceMemoryError, ProviderError
from roicli.core.types import Array
from roicli.operators.onnx_graph import Graph
from roicli.runtime.devices import Device

# What ONNX Runtime, its arena, CUDA, cuDNN and cuBLAS say when memory is short.
OUT_OF_MEMORY = (
    "Failed to allocate memory for requested buffer",
    "is smaller than requested bytes of",
    "Failed to find a free memory block despite calling Extend",
    "out of memory",
    "STATUS_ALLOC_FAILED",
    "bad_alloc",
)
# A numpy array, or a value that a session left on its device.
Feed = Any


class Session:
    """One ONNX Runtime session on one device.

    ``keeps_memory`` False is for one of many: what a run took on a CUDA device is given back after
    it. Raises ProviderError where the graph or the device is refused and, on a strict device, where
    a node was put on another provider than the device's.
    """

    def __init__(
        self, graph: Graph, device: Device, threads: int, keeps_memory: bool = True
    ) -> None:
        # Here, for the compiled kernels make no session and do not wait for the library.
        from roicli.runtime.onnx_runtime import SEVERITY_FATAL, ort, session_options

        options = session_options(threads)
        if device.strict:
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if device.kind == "cuda":
            from roicli.runtime.cuda_libraries import check_offered, load_libraries

            check_offered()
            load_libraries()
        self.graph, self._device = graph, device
        try:
            # ONNX Runtime would print to stdout and take the CPU instead.
            self._session = ort.InferenceSession(
                graph.model, options, providers=device.providers, enable_fallback=0
            )
        except Exception as error:
            raise _as_provider_error(
                f"ONNX Runtime refused the graph on {device}", error
            ) from error
        if self._session.get_providers()[0] != device.execution_provider:
            raise ProviderError(f"ONNX Runtime could not load {device.execution_provider}")
        if device.strict:
            self._check_placement()
        self._run_options = ort.RunOptions()
        self._run_options.log_severity_level = SEVERITY_FATAL
        for key, value in device.run_entries(keeps_memory).items():
            self._run_options.add_run_config_entry(key, value)

    def placement(self) -> list[tuple[str, str]]:
        """(node, execution provider) of every node, as a strict device's session recorded it."""
        return [
            (f"{node.op_type} {node.name}", part.ep_name)
            for part in self._session.get_provider_graph_assignment_info()
            for node in part.get_nodes()
        ]

    def _check_placement(self) -> None:
        wanted = self._device.execution_provider
        elsewhere = [f"{node} on {name}" for node, name in self.placement() if name != wanted]
        if elsewhere:
            raise ProviderError(
                f"strict provider: not every node runs on {wanted}: {', '.join(elsewhere)}",
                "drop --strict-provider to let ONNX Runtime place them",
            )

    def run_into(self, feeds: Mapping[str, Feed], out: Array) -> None:
        """Run with the result written to the host array ``out``, in place from the host."""
        binding = self._bind(feeds)
        binding.bind_output(
            self.graph.output, "cpu", 0, out.dtype.type, list(out.shape), out.ctypes.data
        )
        self._run(binding)

    def run_resident(self, feeds: Mapping[str, Feed]) -> Feed:
        """Run and return the result as a value on the session's device, to feed other sessions."""
        binding = self._bind(feeds)
        binding.bind_output(self.graph.output, self._device.kind, self._device.index)
        self._run(binding)
        return binding.get_outputs()[0]

    def _bind(self, feeds: Mapping[str, Feed]) -> Any:
        """A binding over host arrays, which go to the device here, and values that are on it."""
        binding = self._session.io_binding()
        for name, value in feeds.items():
            if isinstance(value, np.ndarray):
                self._checked(binding.bind_cpu_input, name, value)
            else:
                self._checked(binding.bind_ortvalue_input, name, value)
        return binding

    def _run(self, binding: Any) -> None:
        self._checked(self._session.run_with_iobinding, binding, self._run_options)

    @staticmethod
    def _checked(call: Any, *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:
            raise _as_provider_error("ONNX Runtime failed", error) from error


def _as_provider_error(what: str, error: Exception) -> ProviderError:
    """ONNX Runtime's message as one line; an error of its own where memory was short."""
    text = " ".join(str(error).split()) or repr(error)
    # The rest of CUDA's messages is where in ONNX Runtime's sources it was called.
    core = re.search(r"CUDA failure \d+: [^;]*[^; ]|Invalid device ID: .*", text)
    short = any(words in text for words in OUT_OF_MEMORY)
    return (DeviceMemoryError if short else ProviderError)(f"{what}: {core[0] if core else text}")
