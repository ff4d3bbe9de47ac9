"""Installs the wheel in every way that the README names, and runs the README from it.

``python -m tests.release.install dist/*.whl`` needs the network. Each install must end with exactly
one package that is ONNX Runtime: the CPU's and CUDA's are one module, and together are broken.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What the README's tests need beside the wheel.
COPIED = ("README.md", "docs", "tests", "pyproject.toml")
NO_CPU_PACKAGE = "onnxruntime; sys_platform == 'no system'\n"


def run(*words: str | Path, at: Path, **environment: str) -> str:
    """What a command prints; the end of everything where it fails."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in words], cwd=at, env={**env, **environment}, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}\n{done.stdout}{done.stderr}")
    return done.stdout


def make_venv(folder: Path) -> Path:
    """A fresh environment; its Python."""
    run(sys.executable, "-m", "venv", folder, at=folder.parent)
    return folder / "bin" / "python"


def count(words: list[str]) -> list[str]:
    """The packages that are ONNX Runtime, of lines that begin with a package's name."""
    names = [word.split("==")[0].split(" ")[0].lower() for word in words]
    return [name for name in names if name in ("onnxruntime", "onnxruntime-gpu")]


def frozen(python: Path) -> list[str]:
    """What is installed beside a Python."""
    code = "import importlib.metadata as m; print(*{d.name for d in m.distributions()}, sep='\\n')"
    return run(python, "-c", code, at=python.parent).splitlines()


def with_pip(wheel: Path, place: Path) -> list[str]:
    """``pip install roicli``."""
    python = make_venv(place / "pip")
    run(python, "-m", "pip", "install", "--quiet", wheel, at=place)
    run(place / "pip/bin/roicli", "sample", at=place)
    run(place / "pip/bin/roicli", "check", "sample_data/text_fpn.h5::p3",
        "sample_data/text_rois.npy", at=place)  # fmt: skip
    return frozen(python)


def with_pipx(wheel: Path, place: Path) -> list[str]:
    """``pipx install roicli``."""
    python = make_venv(place / "with-pipx")
    run(python, "-m", "pip", "install", "--quiet", "pipx", at=place)
    home = {"PIPX_HOME": str(place / "pipx"), "PIPX_BIN_DIR": str(place / "pipx-bin")}
    run(python, "-m", "pipx", "install", "--python", sys.executable, wheel, at=place, **home)
    run(place / "pipx-bin/roicli", "--version", at=place)
    return frozen(place / "pipx/venvs/roicli/bin/python")


def with_uv_tool(wheel: Path, place: Path) -> list[str]:
    """``uv tool install roicli``."""
    uv = find_uv(place)
    home = {"UV_TOOL_DIR": str(place / "uv"), "UV_TOOL_BIN_DIR": str(place / "uv-bin")}
    run(uv, "tool", "install", "--quiet", "--python", sys.executable, wheel, at=place, **home)
    run(place / "uv-bin/roicli", "--version", at=place)
    return frozen(place / "uv/roicli/bin/python")


def with_a_lock_file(wheel: Path, place: Path) -> list[str]:
    """``uv pip compile`` and ``uv pip sync``."""
    uv = find_uv(place)
    (place / "wanted.in").write_text(f"roicli @ {wheel.as_uri()}\n")
    run(uv, "pip", "compile", "--quiet", "wanted.in", "-o", "wanted.txt", at=place)
    python = make_venv(place / "locked")
    run(uv, "pip", "sync", "--quiet", "--python", python, "wanted.txt", at=place)
    run(place / "locked/bin/roicli", "--version", at=place)
    return frozen(python)


def with_cuda_resolved(wheel: Path, place: Path) -> list[str]:
    """CUDA's package in place of the CPU's, resolved alone: NVIDIA's libraries are gigabytes."""
    uv = find_uv(place)
    (place / "overrides.txt").write_text(NO_CPU_PACKAGE)
    (place / "cuda.in").write_text(f"roicli[cuda] @ {wheel.as_uri()}\nonnxruntime-gpu>=1.31.1\n")
    found = run(uv, "pip", "compile", "--quiet", "cuda.in", "--override", "overrides.txt", at=place)
    assert "nvidia-cudnn" in found
    return found.splitlines()


def find_uv(place: Path) -> Path:
    """uv, installed once."""
    if not (place / "with-uv").is_dir():
        python = make_venv(place / "with-uv")
        run(python, "-m", "pip", "install", "--quiet", "uv", at=place)
    return place / "with-uv/bin/uv"


WAYS = {
    "pip install": (with_pip, "onnxruntime"),
    "pipx install": (with_pipx, "onnxruntime"),
    "uv tool install": (with_uv_tool, "onnxruntime"),
    "a lock file": (with_a_lock_file, "onnxruntime"),
    "CUDA, resolved": (with_cuda_resolved, "onnxruntime-gpu"),
}


def run_readme(wheel: Path, place: Path) -> str:
    """The tests of README and guide, where there is the wheel and no clone."""
    clone = place / "no-clone"
    clone.mkdir()
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, clone / name)
    python = make_venv(place / "readme")
    run(python, "-m", "pip", "install", "--quiet", "--upgrade", "pip", at=place)
    run(python, "-m", "pip", "install", "--quiet", f"{wheel}[all]", "--group", "test", at=clone)
    run(place / "readme/bin/roicli", "sample", at=clone)
    # Links lead into the clone that is not there.
    commands = ("--quiet", "tests/docs/test_readme.py", "-k", "not link")
    said = run(python, "-m", "pytest", *commands, at=clone)
    return said.splitlines()[-1]


def main() -> None:
    """Every way, then the README."""
    wheel = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for way, (install, expected) in WAYS.items():
            found = count(install(wheel, place))
            print(f"{way}: {' '.join(found)}", flush=True)
            if found != [expected]:
                sys.exit(f"{way}: expected {expected} and nothing else")
        print(f"README from the wheel: {run_readme(wheel, place)}")


if __name__ == "__main__":
    main()
