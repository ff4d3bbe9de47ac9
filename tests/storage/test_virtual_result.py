"""Virtual results: parts read as one, by relative names, and nothing outside their folder."""

import os
import shutil

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roicli.core.exceptions import InputError
from roicli.storage.address import parse_address
from roicli.storage.formats.hdf5 import links
from roicli.storage.formats.hdf5 import write as virtual_result
from roicli.storage.formats.hdf5.links import check_parts_open
from roicli.storage.formats.hdf5.read import find_sources
from roicli.storage.formats.hdf5.write import write_virtual
from roicli.storage.open import open_array
from roicli.storage.shard import Shard

TABLE = np.dtype([("roi", "<i8"), ("iou", "<f8")])


def make(folder, rows_of_parts, total):
    """Parts in ``OUT.h5.parts`` and the virtual result over them; gives its path."""
    path = os.path.join(folder, "OUT.h5")
    shutil.rmtree(f"{path}.parts", ignore_errors=True)
    os.mkdir(f"{path}.parts")
    parts = []
    for number, rows in enumerate(rows_of_parts):
        shard = Shard(number + 1, len(rows_of_parts), key=f"{number:04d}.h5")
        parts.append(shard.of_rows(rows))
        with h5py.File(f"{path}.parts/{number:04d}.h5", "w") as file:
            file["roi_features"] = np.broadcast_to(
                rows[:, None, None, None].astype(np.float32), (len(rows), 2, 3, 1)
            )
            table = np.zeros(len(rows), TABLE)
            table["roi"] = rows
            file["table"] = table
    datasets = {
        "roi_features": ((total, 2, 3, 1), np.dtype(np.float32)),
        "table": ((total,), TABLE),
    }
    write_virtual(path, path, datasets, parts, {"operator": "align"})
    return path


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    owner=st.lists(st.integers(0, 4), min_size=1, max_size=40),
    runs=st.sampled_from([1, 2, 3, 256]),
)
def test_any_rows_of_any_parts_read_as_one(tmp_path, owner, runs):
    owner = np.array(owner)
    before = virtual_result.RUNS_A_MAPPING
    virtual_result.RUNS_A_MAPPING = runs
    try:
        path = make(tmp_path, [np.flatnonzero(owner == part) for part in range(5)], len(owner))
    finally:
        virtual_result.RUNS_A_MAPPING = before
    expected = np.arange(len(owner))
    with h5py.File(path) as file:
        found = file["roi_features"]
        np.testing.assert_array_equal(found[()], np.broadcast_to(
            expected[:, None, None, None], found.shape
        ))  # fmt: skip
        assert found[len(owner) // 2, 1, 2, 0] == len(owner) // 2
        assert file["table"]["roi"].tolist() == expected.tolist()
        assert file.attrs["operator"] == "align"


def test_the_result_and_its_parts_move_together(tmp_path):
    make(tmp_path, [np.arange(3), np.arange(3, 5)], 5)
    os.mkdir(tmp_path / "else")
    shutil.move(tmp_path / "OUT.h5", tmp_path / "else")
    shutil.move(tmp_path / "OUT.h5.parts", tmp_path / "else")
    with h5py.File(tmp_path / "else" / "OUT.h5") as file:
        assert file["roi_features"][:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    sources = find_sources(str(tmp_path / "else" / "OUT.h5"))
    folder = str(tmp_path / "else" / "OUT.h5.parts")
    assert sources == [f"{folder}/0000.h5", f"{folder}/0001.h5"]


def test_a_missing_part_reads_as_nan(tmp_path):
    path = make(tmp_path, [np.arange(3), np.arange(3, 5)], 5)
    os.unlink(f"{path}.parts/0001.h5")
    with h5py.File(path) as file:
        found = file["roi_features"][:, 0, 0, 0]
    np.testing.assert_array_equal(found, [0, 1, 2, np.nan, np.nan])


def test_more_parts_than_files_may_be_open(tmp_path, monkeypatch):
    path = make(tmp_path, [np.arange(3), np.arange(3, 5)], 5)
    asked = []
    monkeypatch.setattr(links, "allow_open_files", asked.append)
    with h5py.File(path) as file:
        check_parts_open(file["roi_features"], path)
        monkeypatch.setattr(links, "allow_open_files", lambda _: 65)
        with pytest.raises(InputError, match="may open 65 files"):
            check_parts_open(file["roi_features"], path)
    assert asked == [2 + links.OTHER_FILES]


def test_reading_by_roicli_does_not_take_nan_for_a_missing_part(tmp_path):
    path = make(tmp_path, [np.arange(3), np.arange(3, 5)], 5)
    os.unlink(f"{path}.parts/0001.h5")
    with pytest.raises(InputError, match=r"0001\.h5.* is missing"):
        open_array(parse_address(path), "result")


def test_a_plain_result_stands_on_nothing(tmp_path):
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["roi_features"] = np.zeros((1, 1, 1, 1))
    assert find_sources(str(tmp_path / "plain.h5")) is None


@pytest.mark.parametrize(
    "source", ["/etc/passwd.h5", "../x.h5", "x.h5", "OTHER.h5.parts/x.h5", "OUT.h5.parts/../x.h5",
               "OUT.h5.parts/.."]
)  # fmt: skip
def test_files_outside_the_folder_are_refused(tmp_path, source):
    path = str(tmp_path / "OUT.h5")
    layout = h5py.VirtualLayout((1, 1, 1, 1), np.float32)
    layout[...] = h5py.VirtualSource(source, "roi_features", (1, 1, 1, 1))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("roi_features", layout)
    with pytest.raises(InputError, match=r"expected files in OUT\.h5\.parts"):
        find_sources(path)
