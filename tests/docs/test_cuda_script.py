"""The script that checks and measures CUDA, on the host and small: every line but CUDA's own."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from roicli.runtime.cuda_probe import probe_cuda

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "cuda.py"


def run(folder, *options):
    """The script in a folder, as on a machine without roicli; its page and its exit code."""
    page = folder / "page.md"
    line = [sys.executable, str(SCRIPT), "--output", str(page), *options]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    return done, page.read_text("utf-8") if page.exists() else ""


@pytest.mark.full
def test_a_dry_run_checks_and_measures_everything(tmp_path):
    done, page = run(tmp_path, "--provider", "cpu", "--tiny", "--runs", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "nothing on this page was computed on a GPU" in page
    titles = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert titles == [
        "Where nodes run", "Against the CPU", "Copies", "Operators", "Windows of RoI Pool",
        "Device memory", "Verdict",
    ]  # fmt: skip
    for words in ("**Failed**", "**FAIL**", "**NO**", "Not measured"):
        assert words not in page
    for operator in ("pool mmcv overlap", "align max, thirds, legacy", "share_aggregation"):
        assert operator in page
    assert "| seed: pool |" in page
    assert page.rstrip().endswith("every check passed")


def test_without_time_it_says_what_was_not_measured(tmp_path):
    done, page = run(tmp_path, "--provider", "cpu", "--tiny", "--budget", "0")
    assert done.returncode == 1
    assert page.count("Not measured: the time was up.") == 6
    assert "a check failed or had no time" in page


@pytest.mark.skipif(probe_cuda().loads, reason="CUDA is here")
def test_without_cuda_it_is_one_line(tmp_path):
    done, page = run(tmp_path)
    assert (done.returncode, page, done.stdout) == (3, "", "")
    assert len(done.stderr.splitlines()) == 1
    assert "pip install" in done.stderr


def test_a_wrong_result_fails(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    checks = __import__("cuda_checks")
    device = checks.Device(resident=True)
    values = np.random.default_rng(0).normal(size=(2, 9, 9)), np.array([[0, 0, 80, 80.0]])
    real = checks.compute

    def slightly_wrong(spec, feature_map, corners, dtype, device):
        found = real(spec, feature_map, corners, dtype, device)
        return found + np.float32(3e-5) * np.ptp(feature_map) * device.resident

    for spec in (checks.PoolSpec((7, 7), 1 / 16), checks.AlignSpec((7, 7), 1 / 16)):
        arguments = ("what", spec, "here", values, "float32", device)
        assert checks.compare(*arguments).passed
        with monkeypatch.context() as patch:
            patch.setattr(checks, "compute", slightly_wrong)
            row = checks.compare(*arguments)
        assert not row.passed
        assert "**FAIL**" in row.line()
