"""``roicli draw`` as a user runs it."""

from pathlib import Path

import pytest

from tests.cli.running import FPN, SAMPLES, TEXT_ROIS, refuse, run_process, succeed

CALL = ("draw", f"{FPN}::p3", TEXT_ROIS, "--roi", "37")


def test_in_the_terminal() -> None:
    outcome = succeed(*CALL)
    assert outcome.err == ""
    assert "RoI 37 on image 1" in outcome.text
    assert "\u2591" in outcome.text


@pytest.mark.full
def test_in_the_terminal_without_matplotlib() -> None:
    script = "import sys; sys.modules['matplotlib'] = None; sys.modules['jinja2'] = None\n"
    Path("sitecustomize.py").write_text(script, encoding="utf-8")
    assert run_process(*CALL, PYTHONPATH=".", PYTHONIOENCODING="utf-8").code == 0
    outcome = run_process(*CALL, "-o", "f.png", PYTHONPATH=".")
    assert outcome.code == 3
    assert "pip install 'roicli[figures]'" in outcome.err
    outcome = run_process("report", *CALL[1:3], "-o", "f.html", PYTHONPATH=".")
    assert outcome.code == 3
    assert "pip install 'roicli[report]'" in outcome.err


def test_to_a_file_once() -> None:
    pytest.importorskip("matplotlib")
    call = (*CALL, "-o", "figure.svg", "--compare", "pool,align", "--bin", "2,3")
    assert succeed(*call).err == "roicli: note: wrote figure.svg\n"
    refuse(*call, words=("figure.svg: exists already", "--force"))
    assert succeed(*call, "--force", "-q").err == ""


@pytest.mark.full
def test_an_image_of_another_aspect_is_noted() -> None:
    mpl = pytest.importorskip("matplotlib")
    from matplotlib import image

    assert mpl is not None
    image.imsave("wide.png", [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    outcome = succeed(*CALL, "-o", "f.png", "--image", "wide.png")
    assert "3 x 2 px is of another aspect than the map, 512 x 512 px" in outcome.err
    assert succeed(*CALL, "-o", "g.png", "--image", f"{SAMPLES}/image1.jpg").err.count("\n") == 1


def test_refusals() -> None:
    refuse(*CALL, "-o", "f.gif", words=(".svg .png .pdf",))
    refuse(*CALL, "--image", "photo.jpg", words=("figures only", "-o"))
    refuse(*CALL, "--compare", "both", words=("expected one of: align, pool",))
    refuse(*CALL[:-1], "102", words=("0 to 101",))
    refuse(*CALL, "--channel", "24", words=("0 to 23",))
