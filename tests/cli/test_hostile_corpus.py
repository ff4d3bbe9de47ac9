"""Every input that once was a finding, through all commands of its target, as the fuzzer does."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.execution import execute, make_folder
from fuzz.targets import STREAM, TARGETS
from roicli.storage.formats.hdf5 import child
from tests.options import some

pytestmark = pytest.mark.contained
CORPUS = Path(__file__).parents[1] / "corpus"
FILES = sorted(path for path in CORPUS.glob("*/*") if path.is_file())
# They do not come to an end, in any command, and so take all the time that there is.
ENDLESS = ("types-earliest-1-58.h5", "plain-397.h5")


# One of each target; all run in test-all.
QUICK = {path.parent: path for path in FILES if path.name not in ENDLESS}


@some("path", [(path,) for path in FILES], *[(path,) for path in QUICK.values()],
      ids=lambda path: f"{path.parent.name}/{path.name}")  # fmt: skip
def test_nothing_is_found(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "SECONDS", 0.5)
    target = next(each for each in TARGETS if each.name == path.parent.name)
    data = path.read_bytes()
    assert target.ending(data) == path.suffix
    make_folder(str(folder))
    for command in (*target.commands, *([STREAM] if target.streams else [])):
        assert execute(target, data, command) is None


def test_the_corpus_is_small() -> None:
    assert {path.parent.name for path in FILES} == {target.name for target in TARGETS}
    assert max(path.stat().st_size for path in FILES) < 20_000
    assert sum(path.stat().st_size for path in FILES) < 200_000


READ = "import h5py, sys\nprint(h5py.File(sys.argv[1])['maps'][:])"


def test_the_corpus_crashes_a_bare_hdf5() -> None:
    """Else it would prove nothing."""
    path = CORPUS / "hdf5" / "gzip-latest-1-150.h5"
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, check=False)
    if done.returncode != -signal.SIGSEGV:
        pytest.skip("this HDF5 survives the file")
