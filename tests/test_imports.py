"""Imports point one way, each library has its place, ``--help`` is light.

``LAW`` is the picture in DESIGN.md: a package, and what it may import beside itself.
"""

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np

from tests.options import need_numba, some

PACKAGE = Path(__file__).resolve().parents[1] / "roicli"
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
FILES.pop("__init__")  # names that are imported when they are first used: a shop window
FILES.pop("__main__")  # the door of the tool

LAW = {
    "core": "",
    "operators": "core",
    "storage": "core",
    "error_table": "core operators",
    "runtime": "core operators",
    "pipeline": "core operators storage error_table runtime",
    "api": "core operators storage error_table runtime pipeline",
    "ops": "core pipeline api",
    "analysis": "core operators storage error_table runtime pipeline api",
    "render": "core operators storage error_table runtime pipeline api analysis",
    "cli": "core operators storage error_table runtime pipeline api analysis render",
}


@cache
def tree_of(name):
    """What a module says. They are parsed when a test asks: every process collects this file."""
    return ast.parse(FILES[name].read_text(encoding="utf-8"), str(FILES[name]))


@cache
def imports_of(name):
    """Every module that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def libraries_of(name):
    """The top packages that a module imports."""
    return {target.partition(".")[0] for target in imports_of(name)}


def edges_of(name):
    """The package's own modules that a module imports."""
    return {target.removeprefix("roicli.") for target in imports_of(name)} & (FILES.keys() - {name})


def room(name):
    return name.partition(".")[0]


def test_the_package_is_found():
    assert len(FILES) > 30
    assert edges_of("pipeline.stream") > {"runtime.runners", "error_table.values"}
    assert {room(name) for name in FILES} == set(LAW)


def test_imports_follow_the_law():
    against = {
        f"{name} imports {target}"
        for name in FILES
        for target in edges_of(name)
        if room(target) not in {room(name), *LAW[room(name)].split()}
    }
    assert not against


def test_there_is_no_cycle():
    done, path = set(), []

    def visit(name):
        assert name not in path, f"import cycle: {' -> '.join([*path[path.index(name) :], name])}"
        if name not in done:
            path.append(name)
            for target in sorted(edges_of(name)):
                visit(target)
            done.add(path.pop())

    for name in FILES:
        visit(name)


def test_what_is_computed_knows_no_file_no_onnx_and_no_terminal():
    foreign = {"h5py", "onnx", "onnxruntime", "rich", "typer", "numba", "pathlib", "io"}
    rooms = {"core", "operators"}
    assert not {name for name in FILES if room(name) in rooms and libraries_of(name) & foreign}


def test_words_and_errors_need_no_numpy():
    words = {"core.version", "core.exceptions", "core.vocabulary", "core.parse"}
    assert not {name for name in words if "numpy" in libraries_of(name)}


LIBRARY_ROOMS = {
    "typer": {"cli"},
    "rich": {"render", "cli"},
    "h5py": {"storage"},
    "numba": {"runtime"},
    "zarr": {"storage"},
    "fsspec": {"storage"},
    "onnx": {"pipeline", "api"},  # api checks an exported graph with it
    "onnxruntime": {"runtime"},
    "distributed": {"pipeline"},
}


def test_each_library_has_its_rooms():
    found = {
        library: {room(name) for name in FILES if library in libraries_of(name)}
        for library in LIBRARY_ROOMS
    }
    assert found == LIBRARY_ROOMS


ONNX_SPELLING = {"RoiAlign", "MaxRoiPool", "output_half_pixel", "pooled_shape"}


def test_only_the_graph_modules_spell_onnx():
    speakers = set()
    for name in FILES:
        words = {n.value for n in ast.walk(tree_of(name)) if isinstance(n, ast.Constant)}
        if words & ONNX_SPELLING:
            speakers.add(name)
    speakers.remove("operators.libraries")  # whose rows are called so
    assert speakers == {"operators.roi_align", "operators.roi_pool", "pipeline.model_nodes"}
    beside = {
        n for n in FILES if "operators.onnx_protobuf" in edges_of(n) and room(n) != "operators"
    }
    assert beside == {"pipeline.provenance"}


# What some system lacks, beside modules: calls of ``os`` and ``signal``, and a place for files.
LACKING_SOMEWHERE = re.compile(
    r"os\.(f(?!spath|sencode|sdecode)\w+|posix_\w+|p(read|write)v?|sched_\w+|register_at_fork"
    r"|sysconf|O_(NOFOLLOW|DIRECT|NONBLOCK|CLOEXEC)|get(e?uid|pgid)|killpg|setsid|W[A-Z]+)\b"
    r"|signal\.(pthread_\w+|setitimer|SIG(XCPU|PROF|PIPE|KILL|STOP|CHLD|USR\d))\b|/proc/"
)


def test_one_module_knows_what_systems_lack():
    modules = {"fcntl", "resource", "msvcrt"}
    knowing = {name for name in FILES if libraries_of(name) & modules}
    calls = {
        name
        for name, path in FILES.items()
        # The text has comments too; to write a tree down anew takes long.
        if LACKING_SOMEWHERE.search(path.read_text(encoding="utf-8"))
        and LACKING_SOMEWHERE.search(ast.unparse(tree_of(name)))
    }
    assert knowing | calls == {"core.system"}


# --- what is imported when --------------------------------------------------------------------

HEAVY = ("numpy", "h5py", "onnx", "onnxruntime", "numba", "zarr", "fsspec")
HELP = """
import contextlib, io
from typer.main import get_command
from roicli.cli.app import build_app
app = get_command(build_app())
for command in ({commands}):
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as shown:
        app([*command.split(), "--help"])
    assert "Usage" in shown.getvalue(), command
"""


def imported_by(code, names=HEAVY, folder=None):
    """Which of the modules a fresh interpreter holds after running the code."""
    tail = f"\nimport json, sys\nprint(json.dumps([n for n in {names!r} if n in sys.modules]))"
    run = subprocess.run(
        [sys.executable, "-c", code + tail], capture_output=True, text=True, check=False, cwd=folder
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_importing_the_package_costs_nothing():
    assert imported_by("import roicli; roicli.__version__") == []


def test_help_imports_no_numpy():
    commands = (
        "'', 'align', 'pool', 'errors', 'presets', 'providers', 'export', 'bench', 'check', "
        "'inspect', 'merge', 'compare', 'diagnose', 'sweep', 'explain', 'draw', 'report'"
    )
    assert imported_by(HELP.format(commands=commands)) == []


def test_the_measurement_sees_an_import():
    assert imported_by("import roicli; roicli.AlignSpec") == ["numpy"]


@some("command", [("align",), ("pool",), ("errors",)], ("align",))
def test_a_run_builds_no_adapters(command, tmp_path, monkeypatch):
    """Typer would import Pydantic for one parameter whose default is no word (cli/fast_typer)."""
    monkeypatch.chdir(tmp_path)
    samples = PACKAGE.parent / "sample_data"
    rois = str(samples / "text_rois.npy")
    given = [rois] if command == "errors" else [f"{samples}/text_fpn.h5::p3", rois, "-o", "r.npy"]
    code = f"""
import sys
from roicli.cli.app import main
sys.argv = ["roicli", {command!r}, *{given!r}, "--quiet"]
try:
    main()
except SystemExit as ended:
    assert not ended.code
assert "pydantic" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# Options, and what a run imports for them alone: without, it would only cost time.
IMPORTED_FOR = {
    "--rows 1": ["roicli.render.error_table"],
    "--no-table --errors-out errors.csv": ["roicli.error_table.writers"],
    "--no-table --resume": ["hashlib", "roicli.pipeline.fingerprint"],
    "--no-table --fail-over iou=2": ["roicli.error_table.thresholds"],
    "--no-table --preset mmcv": ["roicli.operators.libraries"],
    "--no-table --verify": ["roicli.pipeline.verify"],
    "--no-table --values --quantization mmcv": [
        "roicli.operators.pool_windows",
        "roicli.runtime.pool_runner",
    ],
    "--no-table --shard 1/2 -o part.h5": ["h5py", "roicli.storage.formats.hdf5.part"],
    "--no-table --provider auto": ["roicli.runtime.cuda_libraries"],
}
PLAIN_RUN = """
import sys
from roicli.cli.app import main
sys.argv = ["roicli", "align", "f.npy", "r.npy", *{given!r}]
try:
    main()
except SystemExit as ended:
    assert not ended.code
"""


def imported_by_run(folder, options, names):
    """Which of ``names`` a run over a small map imports."""
    np.save(folder / "f.npy", np.ones((1, 2, 8, 8), np.float32))
    np.save(folder / "r.npy", np.array([[0, 1, 1, 6, 5], [0, 2, 0, 7, 7]], np.float32))
    given = ["--spatial-scale", "1", "--provider", "cpu", "-o", "o.npy", "--force", *options]
    return imported_by(PLAIN_RUN.format(given=given), names, folder)


def test_a_run_imports_only_what_it_was_asked_for(tmp_path):
    names = ["numpy.ma", "rich", *(name for listed in IMPORTED_FOR.values() for name in listed)]
    assert imported_by_run(tmp_path, ["--no-table"], names) == []


def test_the_compiled_kernels_need_neither_onnx_runtime_nor_numba(tmp_path):
    """Once they are on disk, which the first of the two runs sees to."""
    need_numba()
    for _ in range(2):
        names = ["onnxruntime", "numba", "llvmlite"]
        found = imported_by_run(tmp_path, ["--no-table", "--provider", "native"], names)
    assert found == ["llvmlite"]


@some("options", [(one,) for one in IMPORTED_FOR], *[(one,) for one in [*IMPORTED_FOR][::6]])
def test_what_an_option_needs_is_imported_for_it(options, tmp_path):
    names = IMPORTED_FOR[options]
    found = imported_by_run(tmp_path, options.split(), [*names, "rich"])
    assert found == names, "and a pipe needs no rich"
