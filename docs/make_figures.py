"""Make the pictures and worked examples of the documentation, from the sample data (``make docs``).

Writes docs/figures/ and docs/worked_examples.md. The pictures of the page need Chromium; without it
the ones that are there stay.
"""

import io
import os
import sys
import tempfile
from pathlib import Path

import roicli
from roicli.render.explain import print_markdown

ROOT = Path(__file__).parents[1]
FIGURES = Path("docs", "figures")
FPN, ROIS = "sample_data/text_fpn.h5", "sample_data/text_rois.npy"
EXAMPLES = "sample_data/worked_examples.h5"

PICTURES = {
    "roi.svg": {},
    "compare.png": {"compare": "pool,align"},
    "close_up.png": {"bin_index": (2, 3)},
    "photo.png": {"image": "sample_data/image1.jpg"},
}
WORKED = {
    "W2 to W4, legacy": ("w2_w7", {"aligned": False, "sampling_ratio": 2}),
    "W5 and W7, half-pixel": ("w2_w7", {}),
    "W6, adaptive sampling": ("w2_w7", {"sampling_ratio": 0}),
    "W8 and W11, caffe": ("w8_w11", {"output_size": 3}),
    "W9 and W10, thirds and floor": (
        "w8_w11",
        {"output_size": 3, "sampling_grid": "thirds", "quantization": "floor"},
    ),
}


def explain_worked() -> str:
    """docs/worked_examples.md: what ``roicli explain --format md`` says on the worked examples."""
    stream = io.StringIO()
    stream.write(
        "# Worked examples\n\nMade by `make docs` from `sample_data/worked_examples.h5`. Channel 0 "
        "of each map holds its own address, 1000 y + x, so that\na sample's value reads back where "
        "it was taken.\n"
    )
    for title, (name, options) in WORKED.items():
        inputs = (f"{EXAMPLES}::{name}/features", f"{EXAMPLES}::{name}/rois")
        stream.write(f"\n## {title}\n\n")
        print_markdown(roicli.explain(*inputs, roi=0, **options), stream, level=3)
    return stream.getvalue()


def draw_pictures() -> None:
    """The figures of RoI 37 on the finest level, and of the second worked example."""
    for name, options in PICTURES.items():
        roicli.draw(f"{FPN}::p3", ROIS, FIGURES / name, roi=37, force=True, **options)
        if name.endswith(".png"):
            shrink(FIGURES / name)
    inputs = (f"{EXAMPLES}::w8_w11/features", f"{EXAMPLES}::w8_w11/rois")
    roicli.draw(*inputs, FIGURES / "w8.svg", roi=0, channel=1, output_size=3, force=True)


def shrink(path: Path) -> None:
    """A PNG of 256 colours, chosen so that the rare ones, which mean something, stay."""
    from PIL import Image

    with Image.open(path) as image:
        few = image.convert("RGB").quantize(
            256, method=Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE
        )
    few.save(path, optimize=True)


def photograph_page() -> None:
    """The page, light and dark, as Chromium shows it."""
    sys.path.insert(0, str(ROOT))
    from tests import browser

    if browser.EXECUTABLE is None:
        print("no Chromium: the pictures of the page stay as they are", file=sys.stderr)
        return
    os.environ.setdefault("SOURCE_DATE_EPOCH", "1767225600")
    with tempfile.TemporaryDirectory() as folder, browser.open_page() as page:
        path = Path(folder, "report.html")
        roicli.report(FPN, ROIS, path, levels="p3,p4,p5")
        for scheme in ("light", "dark"):
            page.prefer(scheme)
            page.load(path.as_uri(), 1280, 1150)
            (FIGURES / f"report-{scheme}.png").write_bytes(page.screenshot())
            shrink(FIGURES / f"report-{scheme}.png")


def main() -> None:
    """Write everything."""
    os.chdir(ROOT)
    FIGURES.mkdir(exist_ok=True)
    Path("docs", "worked_examples.md").write_text(explain_worked(), encoding="utf-8")
    draw_pictures()
    photograph_page()


if __name__ == "__main__":
    main()
