"""The folder of parts: one run's alone, kept or gone, and never half in the result's place."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from roicli.core.exceptions import InputError, OutputError
from roicli.storage.atomic import PartFile, replace_atomically
from roicli.storage.formats.hdf5.write import write_virtual
from roicli.storage.parts_folder import open_parts, publish_parts, remove_old_parts
from roicli.storage.plan import Plan, keep_parts
from roicli.storage.shard import Shard
from roicli.storage.shared_place import Folder
from tests.crashes import die_at_every_step
from tests.log import logged
from tests.options import some

SAME = {"operator": "align"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def touch(path, text="x"):
    with open(path, "w") as stream:
        stream.write(text)


def at(plan, number):
    """Where a part stands."""
    return os.path.join(plan.place.path, plan.part_key(number))


def interrupt(error, keep, parts=1):
    """A run of four parts that an error ends when some of them are there, and what it said."""

    def stopped():
        with open_parts("o.h5", keep, False) as opened:
            opened.begin(4, SAME, keep, False)
            for number in range(1, parts + 1):
                touch(at(opened, number))
            raise error

    with logged() as lines, pytest.raises(type(error)):
        stopped()
    return lines


def begin(keep=False, force=False, count=4, found=SAME):
    """Open the folder, begin, and let go of it; gives its count and what was finished."""
    with open_parts("o.h5", keep, force) as opened:
        opened.begin(count, found, keep, force)
        return opened.count, opened.finished()


def test_parts_take_the_results_place_together():
    with open_parts("o.h5", False, False) as opened:
        opened.begin(2, SAME, False, False)
        touch(at(opened, 1))
        touch(at(opened, 2))
        touch(os.path.join(opened.place.path, ".stray"))
        with publish_parts(opened):
            touch("o.h5")
    assert sorted(os.listdir(".")) == ["o.h5", "o.h5.parts"]
    names = [opened.part_name(number) for number in (1, 2)]
    assert sorted(os.listdir("o.h5.parts")) == names
    assert names[0].startswith("0001-")


def test_a_result_that_cannot_be_written_leaves_the_old_one():
    os.mkdir("o.h5.parts")
    touch("o.h5.parts/0001.h5", "old")

    def write():
        with open_parts("o.h5", False, True) as opened:
            opened.begin(1, SAME, False, True)
            touch(at(opened, 1), "new")
            with publish_parts(opened):
                raise OutputError("full")

    with pytest.raises(OutputError, match="full"):
        write()
    assert os.listdir(".") == ["o.h5.parts"]
    with open("o.h5.parts/0001.h5") as stream:
        assert stream.read() == "old"


def test_an_interrupted_run_leaves_nothing():
    interrupt(KeyboardInterrupt(), keep=False)
    assert os.listdir(".") == []


def test_an_interrupted_run_keeps_its_parts_and_is_gone_on_with():
    assert interrupt(KeyboardInterrupt(), keep=True, parts=3) == [
        ".o.h5.parts keeps 3 of 4 parts; the same command goes on from there"
    ]
    # Another number of blocks would have been planned: what is kept decides.
    assert begin(keep=True, count=9) == (4, [1, 2, 3])


def test_what_a_wrong_input_ends_is_not_kept_and_what_storage_ends_is():
    interrupt(InputError("bad"), keep=True)
    assert os.listdir(".") == []
    error = InputError("away")
    error.__cause__ = TimeoutError()
    interrupt(error, keep=True)
    assert os.listdir(".") == [".o.h5.parts"]


def test_parts_that_cannot_be_removed_do_not_hide_what_ended_the_run(monkeypatch):
    def refuse(place, prefix=""):
        raise ConnectionError("the server is away\nand more")

    monkeypatch.setattr(Folder, "remove_all", refuse)
    plan = Plan("o.h5", Folder(".o.h5.parts"))
    plan.begun = True
    with logged() as notes, pytest.raises(KeyboardInterrupt), keep_parts(plan, False):
        raise KeyboardInterrupt
    assert notes == [".o.h5.parts could not be removed: the server is away; give --force next time"]


def test_kept_parts_are_another_runs_or_neither_thrown_away_nor_taken():
    interrupt(KeyboardInterrupt(), keep=True)
    for keep, found, words in (
        (False, SAME, "has kept 1 of 4 parts"),
        (True, {"operator": "pool"}, "operator was align, is pool"),
    ):
        with pytest.raises(OutputError, match=words):
            begin(keep=keep, found=found)
        part, plan = sorted(os.listdir(".o.h5.parts"))
        assert (part[:5], plan) == ("0001-", "plan.json")
    assert begin(force=True, count=2) == (2, [])


@pytest.mark.parametrize(
    "plan", ["", "{", "[]", '{"plan": 2}', '{"plan": 3}', '{"plan": 3, "count": "x"}']
)
def test_a_plan_that_cannot_be_read_is_no_plan(plan):
    os.mkdir(".o.h5.parts")
    touch(".o.h5.parts/plan.json", plan)
    assert begin(keep=True, count=2) == (2, [])


def test_two_runs_to_one_name_and_rows_kept_by_one_machine():
    with open_parts("o.h5", False, False), pytest.raises(OutputError, match="another run"):
        begin()
    with PartFile("o.h5") as part:
        touch(part.companion("journal"))
    with pytest.raises(OutputError, match="on one machine"):
        begin()


def test_names_sort_as_numbers():
    opened = Plan("o.h5", Folder("."))
    opened.count = 12_345
    assert [opened.part_name(number) for number in (1, 12_345)] == ["00001.h5", "12345.h5"]


def write_result(value, force=True, keep=False):
    """A virtual result over two parts, whose rows and whose attribute are ``value``."""
    shape, dtype = (4, 1, 1, 1), np.dtype(np.float32)
    with open_parts("o.h5", keep, force) as plan:
        plan.begin(2, {"value": str(value)}, keep, force)
        blocks = (np.arange(0, 2), np.arange(2, 4))
        for number in {1, 2} - set(plan.finished()):
            with h5py.File(at(plan, number), "w") as file:
                file["roi_features"] = np.full((2, 1, 1, 1), value, dtype)
        parts = [
            Shard(n, 2, key=plan.part_name(n)).of_rows(rows) for n, rows in enumerate(blocks, 1)
        ]
        with publish_parts(plan), replace_atomically("o.h5", force) as temporary:
            datasets = {"roi_features": (shape, dtype)}
            write_virtual(temporary, "o.h5", datasets, parts, {"value": value})


def read_result():
    """The value of a result, which every row of it has."""
    with h5py.File("o.h5") as file:
        assert set(file["roi_features"][()].flat) == {file.attrs["value"]}
        return file.attrs["value"]


def is_alone(parts=2):
    return sorted(os.listdir()) == ["o.h5", "o.h5.parts"] and len(os.listdir("o.h5.parts")) == parts


EACH = some("each", [(1,), (3,)], (3,))


@EACH
def test_wherever_a_run_is_killed_attributes_and_parts_are_of_one_run(each):
    held = set()
    write_result(1)
    for _ in die_at_every_step(lambda: write_result(2, keep=True), each):
        held.add(read_result())
        write_result(2, keep=True)  # whatever was left, the same command goes on with it
        assert read_result() == 2
        assert is_alone()
        write_result(1)
    assert held == {1, 2}
    assert read_result() == 2
    assert is_alone()


@pytest.mark.full
@EACH
def test_a_run_that_is_killed_before_its_result_has_its_name_is_not_in_its_own_way(each):
    """Without --force: parts that stand in their place already are its own."""
    for _ in die_at_every_step(lambda: write_result(2, force=False, keep=True), each):
        if not os.path.exists("o.h5"):
            write_result(2, force=False, keep=True)
        assert read_result() == 2
        write_result(1)
        assert is_alone()
        os.unlink("o.h5")
        remove_old_parts("o.h5")
    assert read_result() == 2


def test_parts_that_wait_for_their_result_are_not_computed_again():
    with pytest.raises(KeyboardInterrupt):
        interrupt_publishing()
    assert sorted(os.listdir()) == [".o.h5.parts"]
    with open_parts("o.h5", True, False) as opened:
        opened.begin(2, SAME, True, False)
        assert opened.finished() == [1, 2]


def interrupt_publishing():
    with open_parts("o.h5", True, False) as opened:
        opened.begin(2, SAME, True, False)
        for number in (1, 2):
            touch(at(opened, number))
        with publish_parts(opened):
            assert len(os.listdir("o.h5.parts")) == 2
            raise KeyboardInterrupt


def test_an_interruption_behind_the_rename_leaves_the_result_and_its_parts(monkeypatch):
    write_result(1)

    def stop(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("roicli.storage.atomic.flush_path", stop)
    with pytest.raises(KeyboardInterrupt):
        write_result(2)
    assert read_result() == 2


def test_old_parts_go_and_what_is_none_stays():
    os.mkdir("o.h5.parts")
    for name in ("0001.h5", "10000.h5", f"0002-{'0f' * 8}.h5", "notes.h5", "0001.txt"):
        touch(f"o.h5.parts/{name}")
    write_result(3)
    assert read_result() == 3
    assert len(os.listdir("o.h5.parts")) == 4
    remove_old_parts("o.h5")
    assert sorted(os.listdir("o.h5.parts")) == ["0001.txt", "notes.h5"]


def test_the_folder_of_parts_is_no_more_open_than_what_is_replaced():
    Path("o.h5").write_text("old")
    os.chmod("o.h5", 0o640)
    write_result(1)
    assert os.stat("o.h5").st_mode & 0o777 == 0o640
    assert os.stat("o.h5.parts").st_mode & 0o777 == 0o750
    os.chmod("o.h5.parts", 0o700)
    write_result(2)
    assert os.stat("o.h5.parts").st_mode & 0o777 == 0o700
