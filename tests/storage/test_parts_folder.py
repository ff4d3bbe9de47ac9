"""The folder of parts: one run's alone, kept or gone, and never half in the result's place."""

import os

import pytest

from roicli.core.exceptions import InputError, OutputError
from roicli.storage.part_file import PartFile
from roicli.storage.parts_folder import open_parts, publish_parts
from roicli.storage.plan import Plan, keep_parts
from roicli.storage.shared_place import Folder
from tests.log import logged

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
    assert sorted(os.listdir("o.h5.parts")) == ["0001.h5", "0002.h5"]


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
        assert sorted(os.listdir(".o.h5.parts")) == ["0001.h5", "plan.json"]
    assert begin(force=True, count=2) == (2, [])


@pytest.mark.parametrize(
    "plan", ["", "{", "[]", '{"plan": 1}', '{"plan": 2}', '{"plan": 2, "count": "x"}']
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
