"""ONNX Runtime sessions on one execution provider.

Feeds and results are bound, not copied. A binding holds raw pointers, so a run keeps every array
alive until the session is done.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from roicli import graphs
from roicli.datatypes import AlignSpec, Array
from roicli.exceptions import ProviderError
from roicli.onnx_runtime import ort
from roicli.vocabulary import Provider

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
SEVERITY_FATAL = 4


class Session:
    """One ONNX Runtime session on one provider."""

    def __init__(self, graph: graphs.Graph, provider: Provider, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = SEVERITY_FATAL
        # Threads that spin while they wait take the cores that the next map is read and the last
        # result is written on.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        names = [CUDA, CPU] if provider == "cuda" else [CPU]
        if provider == "cuda":
            ort.preload_dlls()
        self.graph = graph
        try:
            self._session = ort.InferenceSession(graph.model, options, providers=names)
        except Exception as error:
            raise ProviderError(f"ONNX Runtime refused the graph on {provider}: {error}") from error
        self.provider_used = self._session.get_providers()[0]

    def run_into(self, feeds: dict[str, Array], out: Array) -> None:
        """Run with the result written to ``out`` in place."""
        binding = self._session.io_binding()
        for name, value in feeds.items():
            binding.bind_cpu_input(name, value)
        binding.bind_output(
            self.graph.output, "cpu", 0, out.dtype.type, list(out.shape), out.ctypes.data
        )
        self._checked(self._session.run_with_iobinding, binding)

    def run(self, feeds: dict[str, Array]) -> Any:
        """Run and return the result as a new array."""
        return self._checked(self._session.run, [self.graph.output], feeds)[0]

    @staticmethod
    def _checked(call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except Exception as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise ProviderError(f"ONNX Runtime failed: {first}") from error


def loads_cuda() -> bool:
    """Whether a small graph really runs on CUDA here."""
    graph = graphs.build_align_graph(AlignSpec(output_size=(1, 1)), np.dtype(np.float32))
    try:
        return bool(Session(graph, "cuda", 1).provider_used == CUDA)
    except ProviderError:
        return False
