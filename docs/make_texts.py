"""docs/rules.md, docs/columns.md and docs/messages.md, from the texts that the commands print.

``make docs`` runs it; the tests hold the pages against what it would write.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import helper
from typer.testing import CliRunner

from roicli.analysis.check.rules import RULES, describe_rule
from roicli.cli.app import build_app
from roicli.cli.commands import COMMANDS
from roicli.error_table.columns import COLUMNS, describe_column

DOCS = Path(__file__).resolve().parent
SAMPLES = DOCS.parent / "sample_data"
# What may go wrong, by kind: the words behind ``roicli``, and below what it says.
MISTAKES: dict[str, tuple[str, ...]] = {
    "Files": (
        "align map.h5::p3 boxes.npy",
        "align maps.h5 boxes.npy",
        "align maps.h5::p6 boxes.npy",
        "align boxes.npy maps.h5::p3",
        "align maps.h5::p3 maps.h5::p3",
        "align maps.h5::p3 boxes.npy -o maps.h5",
        "align maps.h5::p3 boxes.npy -o result.txt",
        "errors boxes.npy --errors-out errors.xlsx",
        "align maps.txt boxes.npy",
    ),
    "Options": (
        "align maps.h5::p3",
        "aling maps.h5::p3 boxes.npy",
        "align maps.h5::p3 boxes.npy --spatial-scal 1/8",
        "align maps.h5::p3 boxes.npy --spatial-scale 0",
        "align maps.h5::p3 boxes.npy --spatial-scale auto",
        "align maps.h5::p3 boxes.npy --output-size 7x",
        "align maps.h5::p3 boxes.npy --sampling-ratio two",
        "align maps.h5::p3 boxes.npy --provider nativ",
        "align maps.h5::p3 boxes.npy --preset torchvison",
        "align maps.h5::p3 boxes.npy --max-memory lots",
        "align maps.h5::p3 boxes.npy --normalized",
        "align maps.h5 boxes.npy --levels p3,p9",
        "pool maps.h5::p3 boxes.npy --graph model.onnx::backbone",
        "pool maps.h5::p3 boxes.npy --graph model.onnx::neck",
        "draw maps.h5::p3 boxes.npy --roi 0-3",
        "draw maps.h5::p3 boxes.npy --roi 102",
    ),
    "The error table and the rules": (
        "errors boxes.npy --sort edge_error",
        "errors boxes.npy --columns roi,io",
        "errors boxes.npy --sort value_cosine",
        "errors boxes.npy --fail-over iou",
        "errors boxes.npy --fail-over p50:iou=0.5",
        "check maps.h5::p3 boxes.npy --select R50",
        "columns iuo",
    ),
    "Settings": (
        "align maps.h5::p3 boxes.npy",
    ),
}  # fmt: skip
# The file of settings that the last kind is tried with.
SETTINGS = 'spatial-scal = "1/8"\n'


def write_rules() -> str:
    """The page of the rules of ``check``."""
    rows = [describe_rule(rule) for rule in RULES]
    lines = [
        f"| {row['id']} | {row['name']} | {row['severity']} | {_yes(row['guess'])} | "
        f"{_yes(row['ignorable'])} | {_cell(row['meaning'])} |"
        for row in rows
    ]
    return _page(
        "The rules of check",
        "What `roicli check` looks for, as `roicli rules` prints it; `roicli rules R05` shows one.",
        "An *error* every command refuses; `--ignore` computes all the same where that can be. A",
        "*guess* names what the data may be instead.",
        "",
        "| rule | name | severity | guess | may be ignored | what it looks for |",
        "|---|---|---|---|---|---|",
        *lines,
    )


def write_columns() -> str:
    """The page of the columns of the error table."""
    rows = [describe_column(column) for column in COLUMNS]
    lines = [
        f"| `{row['name']}` | {row['heading']} | {row['unit']} | {_cell(row['meaning'])} |"
        for row in rows
    ]
    return _page(
        "The columns of the error table",
        "As `roicli columns` prints them; `roicli columns iou` shows one. Files have the names,",
        "terminals the headings. [semantics.md](semantics.md) has the definitions.",
        "",
        "| column | heading | unit | meaning |",
        "|---|---|---|---|",
        *lines,
    )


def write_messages() -> str:
    """The page of wrong inputs, each with its line."""
    parts = []
    for kind, commands in MISTAKES.items():
        settings = SETTINGS if kind == "Settings" else ""
        told = f"With a `roicli.toml` that holds `{settings.strip()}`:\n\n" if settings else ""
        lines = [line for one in commands for line in (f"$ roicli {one}", *_say(one, settings))]
        parts.append(f"## {kind}\n\n{told}```text\n" + "\n".join(lines) + "\n```\n")
    return _page(
        "What roicli says when something is wrong",
        "One line on stderr: what, where, what was found, what was expected, and what to do. The",
        "exit code is 2, and nothing is left behind. `maps.h5` is `sample_data/text_fpn.h5`,",
        "`boxes.npy` is `sample_data/text_rois.npy`, and the node `backbone` of `model.onnx` is a",
        "convolution.",
        "",
        "\n".join(parts).rstrip(),
    )


def _say(command: str, settings: str) -> list[str]:
    with _folder() as folder:
        if settings:
            (folder / "roicli.toml").write_text(settings)
        words = command.split()
        app = build_app(words[:1] if words[0] in COMMANDS else COMMANDS)
        done = CliRunner().invoke(app, words, prog_name="roicli")
    assert done.exit_code == 2, (command, done.output)
    return done.stderr.splitlines()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder with the inputs, as the current one."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(SAMPLES / "text_fpn.h5", folder / "maps.h5")
        shutil.copy(SAMPLES / "text_rois.npy", folder / "boxes.npy")
        (folder / "maps.txt").write_text("no numbers\n")
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["y"], "backbone"),
            helper.make_node("MaxRoiPool", ["y", "r"], ["z"], "head", pooled_shape=[7, 7]),
        ]
        opsets = [helper.make_opsetid("", 18)]
        model = helper.make_model(helper.make_graph(nodes, "g", [], []), opset_imports=opsets)
        onnx.save(model, folder / "model.onnx")
        os.chdir(folder)
        try:
            yield folder
        finally:
            os.chdir(before)


def _page(title: str, *lines: str) -> str:
    return "\n".join([f"# {title}", "", *lines]) + "\n"


def _yes(value: object) -> str:
    return "yes" if value else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


PAGES = {"rules.md": write_rules, "columns.md": write_columns, "messages.md": write_messages}

if __name__ == "__main__":
    for name, write in PAGES.items():
        (DOCS / name).write_text(write(), encoding="utf-8")
