"""Feature pyramids: three spellings of one, the level of each RoI, and what does not fit."""

import json
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.cli.running import FPN, TEXT_ROIS, refuse, save, save_h5, succeed
from tests.options import some

LEVELS = ("--levels", "p3,p4,p5")
CROSSED = ("--ignore", "R04,R19")  # the last of the sizes, and zeros
OUT = ("-o", "out.npy", "--force", "-q", *CROSSED)
SIZES = np.array([8, 100, 223.9, 224, 300, 447.9, 448, 900, 0, -50])


@pytest.fixture
def sized() -> str:
    """RoIs of many sizes on both images."""
    rois = np.zeros((2 * len(SIZES), 5), np.float32)
    rois[:, 0] = np.arange(len(rois)) % 2
    rois[:, 3:] = np.repeat(SIZES, 2)[:, None]
    return save("sized.npy", rois)


def read_table(*arguments: str) -> Any:
    """The table as JSON."""
    return json.loads(succeed(*arguments, "--format", "json", "--force", *CROSSED).text)


def result(*arguments: str) -> NDArray[Any]:
    """What the arguments write."""
    succeed(*arguments, *OUT)
    return np.asarray(np.load("out.npy"))


@some("command", [("align",), ("pool",)], ("pool",))
def test_three_spellings_of_one_pyramid(command: str, sized: str) -> None:
    with h5py.File(FPN) as file:
        for name in file:
            save(f"{name}.npy", file[name][()])
    lists = (f"{FPN}::p3,{FPN}::/p4,{FPN}::p5", f"{FPN}::p3, p4.npy,p5.npy", "p3.npy,p4.npy,p5.npy")
    scales = ("--spatial-scale", "1/8,0.0625,1/32")
    expected = result(command, FPN, sized, *LEVELS)
    assert np.array_equal(result(command, lists[0], sized), expected)
    for features in lists:
        assert np.array_equal(result(command, features, sized, *scales), expected)
    assert np.array_equal(result(command, FPN, sized, *LEVELS, *scales), expected)
    named = ("--level", f"p3={FPN}::p3", "--level=p4=p4.npy", sized, "--level", "p5=p5.npy")
    assert np.array_equal(result(command, *named, *scales), expected)


def test_levels_in_another_order_and_strides_as_scales(sized: str) -> None:
    """The order is named, not the scales; and which scales these strides are."""
    coarsest_first = ("--levels", "p5,p4,p3", "--spatial-scale", "1/8,1/16,1/32")
    refuse("align", FPN, sized, *coarsest_first, words=("cells", "scale is larger", "finest first"))
    strides = ("--spatial-scale", "8,16,32")
    refuse("align", FPN, sized, *LEVELS, *strides, words=("strides", "scales are 1/8,1/16,1/32"))


def test_levels_are_named_once(sized: str) -> None:
    refuse("align", "--level", "p3.npy", sized, words=("--level is 'p3.npy'", "NAME=FILE"))
    words = ("--level and --levels both",)
    refuse("align", "--level", f"p3={FPN}::p3", sized, *LEVELS, words=words)


@some("command", [("align",), ("pool",)], ("align",))
def test_every_roi_is_run_on_its_level_in_its_order(command: str, sized: str) -> None:
    levels = [row["level"] for row in read_table(command, FPN, sized, *LEVELS)["rois"]]
    assert sorted(set(levels)) == [3, 4, 5]
    found = result(command, FPN, sized, *LEVELS)
    for number in (3, 4, 5):
        here = np.array(levels) == number
        alone = result(command, f"{FPN}::p{number}", sized)
        assert np.array_equal(found[here], alone[here])


def test_levels_by_area(sized: str) -> None:
    table = read_table("errors", FPN, sized, *LEVELS)
    levels = [row["level"] for row in table["rois"]][::2]
    assert levels == [3, 3, 3, 4, 4, 4, 5, 5, 3, 3]
    assert list(table["summary_by_level"]) == ["3", "4", "5"]
    assert sum(group["n"] for group in table["summary_by_level"].values()) == len(table["rois"])


def test_the_two_rules_differ_in_their_epsilon() -> None:
    side = np.float32(224) * (1 - np.float32(2**-22))
    save("edge.npy", np.array([[0, 0, 0, side, 224], [0, 0, 0, 224, 224]], np.float32))
    found = []
    for rule in ("torchvision", "detectron2"):
        table = read_table("errors", FPN, "edge.npy", *LEVELS, "--level-rule", rule)
        found.append([row["level"] for row in table["rois"]])
    assert found == [[4, 4], [3, 4]]


def test_levels_from_a_dataset(sized: str) -> None:
    numbers = np.arange(2 * len(SIZES)) % 3 + 3
    save("levels.npy", numbers)
    save_h5("levels.h5", level=numbers.astype(np.float32))
    for address in ("levels.npy", "levels.h5", "levels.h5::level"):
        table = read_table("pool", FPN, sized, *LEVELS, "--level-from", address)
        assert [row["level"] for row in table["rois"]] == numbers.tolist()


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        (np.full(19, 3), ("(19,)", "(20,)")),
        (np.full((20, 1), 3), ("(20, 1)", "(20,)")),
        (np.full(20, 6), ("row 0", "level 6", "3, 4, 5")),
        (np.r_[np.full(19, 3.0), 3.5], ("row 19", "level 3.5")),
        (np.r_[np.full(19, 3.0), np.nan], ("row 19", "level nan")),
        (np.full(20, "p3"), ("dtype",)),
    ],
    ids=str,
)
def test_bad_level_numbers(sized: str, numbers: Any, words: tuple[str, ...]) -> None:
    save("levels.npy", numbers)
    arguments = ("align", FPN, sized, *LEVELS, "--level-from", "levels.npy")
    refuse(*arguments, words=("levels.npy", *words))


def test_pyramids_that_do_not_fit(sized: str) -> None:
    refuse("align", FPN, sized, "--levels", "p3,p7", words=("'p7'", "/p3, /p4, /p5"))
    refuse("align", FPN, sized, "--levels", "p3,,p4", words=("p3,,p4",))
    refuse("align", FPN, sized, "--levels", "p5,p4,p3", words=("finest first",))
    refuse("align", FPN, sized, "--levels", "p3,p5", words=("[3, 5]", "twice"))
    refuse("align", FPN, sized, "--levels", "p3,p3", words=("[3, 3]",))
    refuse("align", FPN, sized, words=("3 datasets fit", "/p3", "/p4", "/p5"))
    scales = ("--spatial-scale", "1/8,1/16")
    refuse("align", FPN, sized, *LEVELS, *scales, words=("2 spatial scales", "3 maps"))
    scales = ("--spatial-scale", "1/8,1/12,1/32")
    refuse("align", FPN, sized, *LEVELS, *scales, words=("strides 8, 12, 32", "powers of two"))
    with h5py.File(FPN) as file:
        save("p4.npy", file["p4"][()])
        save("half.npy", file["p4"][:1])
    words = ("p4.npy", "spatial_scale", "--spatial-scale")
    refuse("align", f"{FPN}::p3,p4.npy", sized, words=words)
    scales = ("--spatial-scale", "1/8,1/16")
    words = ("half.npy", "(1, 24)", "(2, 24)")
    refuse("align", f"{FPN}::p3,half.npy", sized, *scales, words=words)
    refuse("align", f"{FPN}::p3,", sized, words=("''",))


def test_group_of_levels() -> None:
    with h5py.File(FPN) as source, h5py.File("deep.h5", "w") as file:
        for name in source:
            source.copy(source[name], file, f"net/fpn/{name}")
    expected = result("align", FPN, TEXT_ROIS, *LEVELS)
    for address in ("deep.h5::net/fpn", "deep.h5::/net/fpn/"):
        assert np.array_equal(result("align", address, TEXT_ROIS, *LEVELS), expected)
    nested = ("--levels", "net/fpn/p3,net/fpn/p4,net/fpn/p5")
    assert np.array_equal(result("align", "deep.h5", TEXT_ROIS, *nested), expected)


def test_the_level_of_one_map_is_its_stride() -> None:
    rows = read_table("errors", f"{FPN}::p4", TEXT_ROIS)["rois"]
    assert {row["level"] for row in rows} == {4}
    rows = read_table("errors", TEXT_ROIS, "--spatial-scale", "0.1")["rois"]
    assert {row["level"] for row in rows} == {None}


# Level rules and levels that have no log2 -----------------------------------------------------


@pytest.fixture
def odd_strides() -> str:
    """Maps of strides 7, 14 and 28 of an image of 224 x 336, all of ones, twos and threes."""
    shapes = {7: (32, 48), 14: (16, 24), 28: (8, 12)}
    maps = {
        f"s{stride}": np.full((1, 1, *shape), number, np.float32)
        for number, (stride, shape) in enumerate(shapes.items())
    }
    path = save_h5("odd.h5", **maps)
    with h5py.File(path, "a") as file:
        for stride in shapes:
            file[f"s{stride}"].attrs["stride"] = stride
    return path


ODD = ("--levels", "s7,s14,s28")
ODD_ROIS = np.array([[0, 4, 4, 4 + side, 4 + side] for side in (20, 60, 120, 200)], np.float32)


def test_strides_that_are_no_powers_of_two_are_numbered_from_0(odd_strides: str) -> None:
    save("r.npy", ODD_ROIS)
    maps = (odd_strides, "r.npy", *ODD)
    for options, levels in (
        (("--canonical-level", "2", "--canonical-size", "112"), [0, 1, 2, 2]),
        (("--canonical-level", "0", "--canonical-size", "28"), [0, 1, 2, 2]),
        (("--level-rule", "mmdet"), [0, 0, 1, 1]),
        (("--level-rule", "mmdet", "--canonical-size", "28"), [0, 1, 2, 2]),
    ):
        # Each map holds its own number.
        assert result("align", *maps, *options)[:, 0, 3, 3].tolist() == levels
        shown = read_table("align", *maps, *options, "-o", "o.npy")
        assert [row["level"] for row in shown["rois"]] == levels
    save("levels.npy", np.array([2, 1, 0, 2]))
    found = result("align", *maps, "--level-from", "levels.npy")
    assert found[:, 0, 0, 0].tolist() == [2, 1, 0, 2]


def test_what_the_levels_of_odd_strides_lack(odd_strides: str) -> None:
    save("r.npy", ODD_ROIS)
    words = ("strides 7, 14, 28", "from 0", "--canonical-level", "mmdet", "--level-from")
    refuse("align", odd_strides, "r.npy", *ODD, words=words)
    refuse("align", odd_strides, "r.npy", "--levels", "s14,s7",
           words=("strides are 14, 7", "above the one before"))  # fmt: skip
    save("levels.npy", np.array([2, 1, 0, 3]))
    refuse("align", odd_strides, "r.npy", *ODD, "--level-from", "levels.npy",
           words=("row 3: level 3", "0, 1, 2"))  # fmt: skip


def test_each_level_rule_on_one_pyramid(sized: str) -> None:
    """Matterport rounds, and mmdet counts from the finest map."""
    rois = np.array([[0, 0, 0, side, side] for side in (100, 150, 170, 300, 330, 900)], np.float32)
    save("r.npy", rois)
    maps = ("errors", FPN, "r.npy", *LEVELS, "--ignore", "R05")
    for options, levels in (
        ((), [3, 3, 3, 4, 4, 5]),
        (("--level-rule", "detectron2"), [3, 3, 3, 4, 4, 5]),
        (("--level-rule", "model-garden"), [3, 3, 3, 4, 4, 5]),
        (("--level-rule", "mmdet"), [3, 4, 4, 5, 5, 5]),
        (("--level-rule", "matterport", "--image-size", "800x1088"), [3, 3, 4, 4, 5, 5]),
        (("--canonical-size", "112"), [3, 4, 4, 5, 5, 5]),
        (("--canonical-level", "5"), [3, 4, 4, 5, 5, 5]),
    ):
        found = [row["level"] for row in read_table(*maps, *options)["rois"]]
        assert found == levels, options
    refuse("errors", FPN, "r.npy", *LEVELS, "--level-rule", "matterport",
           words=("whose size is not known", "--image-size"))  # fmt: skip
    refuse("errors", FPN, "r.npy", *LEVELS, "--image-size", "800x1088",
           words=("do not need it",))  # fmt: skip
