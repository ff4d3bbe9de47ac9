"""docs/screens.md and docs/figures/screens: what commands show in terminals of three widths.

Each command runs in a terminal of its own (a pty), so its colours and its width are what a person
sees. ``make docs`` runs it.
"""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME
from rich.text import Text

DOCS = Path(__file__).resolve().parent
SAMPLES = DOCS.parent / "sample_data"
SCREENS = DOCS / "figures" / "screens"
WIDTHS = (80, 120, 200)
PROGRAM = "import sys; sys.argv[0] = 'roicli'; from roicli.__main__ import main; main()"
MAPS, BOXES = "sample_data/text_fpn.h5::p3", "sample_data/text_rois.npy"
COMMANDS: dict[str, tuple[str, ...]] = {
    "align": ("align", MAPS, BOXES, "-o", "features.h5", "--force"),
    "check": ("check", MAPS, BOXES),
    "help": ("align", "--help"),
    "mistake": ("align", "sample_data/text_fpn.h5", BOXES),
}
PAGE_HEAD = """# Screens

What commands show in terminals of 80, 120 and 200 columns, made by `make docs`: the verdict first,
then as much of the table as fits. Red and magenta are read on light and on dark; `NO_COLOR` takes
them away."""
# rich's own frame names fonts in the network; this one names what every system has.
FRAME = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">
<style>
.{unique_id}-matrix {{ font-family: monospace; font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
<rect fill="#ffffff" stroke="#888888" width="{width}" height="{height}"/>
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""  # noqa: E501 - one element a line


def show(words: tuple[str, ...], width: int) -> str:
    """What a command writes into a terminal of this width."""
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(SAMPLES, Path(folder, "sample_data"))
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
        left_out = ("NO_COLOR", "COLUMNS", "LINES", "ROICLI_CONFIG", "FORCE_COLOR")
        environment = {k: v for k, v in os.environ.items() if k not in left_out}
        with subprocess.Popen(  # noqa: S603 - its own commands
            [sys.executable, "-c", PROGRAM, *words],
            stdin=slave, stdout=slave, stderr=slave, cwd=folder,
            env={**environment, "TERM": "xterm-256color"},
        ):  # fmt: skip
            os.close(slave)
            read = b"".join(iter(lambda: _read(master), b""))
        os.close(master)
    return read.decode().replace("\r\n", "\n")


def _read(master: int) -> bytes:
    try:
        return os.read(master, 1 << 16)
    except OSError:  # the other end is closed
        return b""


def draw(words: tuple[str, ...], width: int, name: str) -> str:
    """The screen as SVG, the command above what it wrote."""
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=width, file=nowhere, force_terminal=True)
        console.print(f"$ roicli {' '.join(words)}", style="dim", highlight=False)
        console.print(Text.from_ansi(show(words, width)))
        return console.export_svg(
            title="", theme=DEFAULT_TERMINAL_THEME, code_format=FRAME, unique_id=f"screen-{name}"
        )


def main() -> None:
    """Write every screen, and the page that shows them."""
    SCREENS.mkdir(exist_ok=True)
    lines = [PAGE_HEAD]
    for name, words in COMMANDS.items():
        lines += ["", f"## roicli {' '.join(words)}"]
        for width in WIDTHS:
            picture = f"figures/screens/{name}-{width}.svg"
            lines += ["", f"{width} columns:", "", f"![{width} columns]({picture})"]
            path = SCREENS / f"{name}-{width}.svg"
            path.write_text(draw(words, width, f"{name}-{width}"), encoding="utf-8")
    (DOCS / "screens.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
