"""Two packages that are both ONNX Runtime are named, and nothing runs on what they left."""

from pathlib import Path

import pytest

from roicli.core.exceptions import ProviderError
from roicli.runtime.onnx_runtime import check_single


def _install(folder: Path, *names: str) -> str:
    for name in names:
        (folder / f"{name}.dist-info").mkdir()
    return str(folder)


def test_two_are_refused(tmp_path: Path) -> None:
    folder = _install(tmp_path, "onnxruntime-1.31.1", "onnxruntime_gpu-1.30.0", "numpy-2.0")
    with pytest.raises(ProviderError) as refused:
        check_single(folder)
    assert refused.value.message == (
        "onnxruntime 1.31.1 and onnxruntime-gpu 1.30.0 are installed together, and are one module"
    )
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in str(refused.value)


def test_one_of_any_kind_is_fine(tmp_path: Path) -> None:
    others = ("onnxruntime_extensions-0.14.0", "onnxruntime_genai-0.11.0", "onnx-1.19.0")
    check_single(_install(tmp_path, *others, "onnxruntime_directml-1.24.1"))
