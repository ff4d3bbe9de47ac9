"""Inputs that change are noticed by size and time."""

import hashlib
import os
from pathlib import Path

import pytest

from roicli.core.exceptions import InputError
from roicli.storage.file_state import check_unchanged, hash_file, read_state


@pytest.fixture
def path(tmp_path):
    name = tmp_path / "f.npy"
    name.write_bytes(b"maps")
    return str(name)


def test_the_same_file_is_unchanged(path):
    check_unchanged({path: read_state(path)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: Path(path).write_bytes(b"longer"), "it had 4 bytes and has 6"),
        (lambda path: os.utime(path, ns=(0, 5)), "its time is another"),
        (os.unlink, "cannot be read: No such file"),
    ],
    ids=["size", "time", "gone"],
)
def test_a_change_is_one_line(path, change, words):
    before = read_state(path)
    change(path)
    with pytest.raises(InputError, match=words) as caught:
        check_unchanged({path: before})
    assert str(caught.value).startswith(path)


def test_the_hash_is_that_of_the_contents(path):
    assert hash_file(path) == hashlib.sha256(b"maps").hexdigest()
    with pytest.raises(InputError, match="cannot be read"):
        hash_file(f"{path}.gone")
