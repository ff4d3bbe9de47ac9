"""``--shard`` and ``merge``: parts joined are what one run writes, or one line says why not."""

import os
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

import roicli
from roicli.storage.formats.hdf5.part import PART_ATTRIBUTES
from tests.cli.conftest import Arrays
from tests.cli.running import (
    FEATURES,
    FPN,
    ROIS,
    SCALE,
    TEXT_ROIS,
    refuse,
    run,
    save,
    save_h5,
    succeed,
)
from tests.options import some
from tests.strategies import examples

PYRAMID = (FPN, TEXT_ROIS, "--levels", "p3,p4,p5")


def make_parts(command: str, *arguments: str, count: int, prefix: str = "part") -> list[str]:
    """The parts of ``count`` shards."""
    names = [f"{prefix}-{number}.h5" for number in range(1, count + 1)]
    for number, name in enumerate(names, 1):
        succeed(command, *arguments, "--shard", f"{number}/{count}", "-o", name, "-q")
    return names


def read_all(path: str) -> tuple[dict[str, tuple[str, bytes]], dict[str, Any]]:
    """Every dataset as dtype and bytes, and the attributes as text, but for the time."""
    with h5py.File(path) as file:
        datasets = {
            name: (str(found.dtype), str(found.shape), found[()].tobytes())
            for name, found in file.items()
        }
        attributes = {
            k: (type(v).__name__, str(np.asarray(v).tolist())) for k, v in file.attrs.items()
        }
    attributes.pop("created_utc")
    return datasets, attributes


CALLS = [
    "align --values",
    "align --sampling-ratio 0 --dtype float16",
    "pool --quantization hull --partition disjoint",
    "pool --values --provider native",
]


@some("call, count", product(CALLS, (1, 2, 3, 7)), (CALLS[3], 3))
def test_joined_parts_are_one_run(call: str, count: int) -> None:
    command, *options = call.split()
    parts = make_parts(command, *PYRAMID, *options, count=count)
    succeed(command, *PYRAMID, *options, "-o", "one.h5", "-q")
    succeed("merge", *reversed(parts), "-o", "joined.h5", "-q")
    assert read_all("joined.h5") == read_all("one.h5")
    succeed(command, *PYRAMID, *options, "-o", "one.npy", "-q")
    succeed("merge", *parts, "-o", "joined.npy", "-q")
    assert Path("joined.npy").read_bytes() == Path("one.npy").read_bytes()


def test_more_blocks_than_rois_and_rois_in_no_order(inputs: Arrays) -> None:
    parts = make_parts("align", FEATURES, ROIS, *SCALE, count=9)
    succeed("align", FEATURES, ROIS, *SCALE, "-o", "one.h5", "-q")
    outcome = succeed("merge", *parts, "-o", "joined.h5")
    assert "(5, 3, 7, 7) float32 from 9 parts" in outcome.err
    assert read_all("joined.h5") == read_all("one.h5")
    sizes = [h5py.File(part)["rows"].shape[0] for part in parts]
    assert sum(sizes) == 5
    assert 0 in sizes


def test_no_rois_at_all(inputs: Arrays) -> None:
    save("none.npy", np.empty((0, 5), np.float32))
    parts = make_parts("pool", FEATURES, "none.npy", *SCALE, count=2)
    succeed("pool", FEATURES, "none.npy", *SCALE, "-o", "one.h5", "-q")
    succeed("merge", *parts, "-o", "joined.h5", "-q")
    assert read_all("joined.h5") == read_all("one.h5")


@examples(4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    images=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    count=st.integers(1, 6),
    values=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_split_gives_the_same_bits(
    tmp_path: Path, images: list[int], count: int, values: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(4, 2, 6, 5)).astype(np.float32)
    corners = np.sort(rng.uniform(0, 20, (len(images), 2, 2)), axis=1).reshape(-1, 4)
    rois = np.column_stack([images, corners]).astype(np.float32)
    options: Any = {"spatial_scale": 0.25, "output_size": 2, "values": values, "force": True}
    parts = [str(tmp_path / f"{number}.h5") for number in range(count)]
    for number, part in enumerate(parts, 1):
        roicli.align(features, rois, part, shard=f"{number}/{count}", **options)
    roicli.align(features, rois, tmp_path / "one.h5", **options)
    merged = roicli.merge(parts, tmp_path / "joined.h5", force=True)
    assert (merged.parts, merged.shape, merged.dtype) == (count, (len(images), 2, 2, 2), "float32")
    assert read_all(str(tmp_path / "joined.h5")) == read_all(str(tmp_path / "one.h5"))


@pytest.mark.parametrize("compression", ["gzip", "lzf"])
def test_compression_is_of_each_file(inputs: Arrays, compression: str) -> None:
    options = ("--compression", compression)
    parts = make_parts("align", FEATURES, ROIS, *SCALE, *options, count=2)
    succeed("align", FEATURES, ROIS, *SCALE, *options, "-o", "one.h5", "-q")
    succeed("merge", *parts, *options, "-o", "joined.h5", "-q")
    assert read_all("joined.h5") == read_all("one.h5")
    with h5py.File("joined.h5") as file:
        assert file["roi_features"].compression == compression


def test_a_part_says_what_it_is(inputs: Arrays) -> None:
    succeed("align", FEATURES, ROIS, *SCALE, "--shard", "2/2", "-o", "part.h5", "-q")
    with h5py.File("part.h5") as file:
        assert file["rows"][()].tolist() == [1, 3]
        assert file["rois"][:, 0].tolist() == [1, 1]
        assert file["quantization_error"]["roi"].tolist() == [1, 3]
        assert file.attrs["shard"] == "2/2"
        assert file.attrs["result_shape"].tolist() == [5, 3, 7, 7]
        assert set(PART_ATTRIBUTES) < set(file.attrs)


def test_tables_and_thresholds_name_rows_of_the_whole(inputs: Arrays) -> None:
    options = ("--shard", "2/2", "-o", "part.h5", "--format", "csv", "--fail-over", "roi=2")
    outcome = run("align", FEATURES, ROIS, *SCALE, *options)
    assert outcome.code == 1
    assert [line.split(",")[0] for line in outcome.text.splitlines()[1:]] == ["1", "3"]
    assert "RoIs 3" in outcome.err


def test_an_interrupted_shard_is_resumed(inputs: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    save("many.npy", np.repeat(inputs[1], 40, axis=0))
    base = ("align", FEATURES, "many.npy", *SCALE, "--values")

    def stop(done: int, total: int, size: int) -> None:
        if done:
            raise KeyboardInterrupt

    monkeypatch.setattr("roicli.pipeline.stream.WORK_A_BLOCK", 1 << 14)
    monkeypatch.setattr("roicli.pipeline.stream.HANDED_OVER_BYTES", 1)  # block by block
    arguments: Any = {"spatial_scale": 0.25, "values": True, "shard": "1/2", "resume": True}
    with pytest.raises(KeyboardInterrupt):
        roicli.align(FEATURES, "many.npy", "part-1.h5", progress=stop, **arguments)
    assert not os.path.exists("part-1.h5")
    outcome = succeed(*base, "--shard", "1/2", "--resume", "-o", "part-1.h5")
    assert "going on from" in outcome.err
    succeed(*base, "--shard", "2/2", "-o", "part-2.h5", "-q")
    succeed(*base, "-o", "one.h5", "-q")
    succeed("merge", "part-1.h5", "part-2.h5", "-o", "joined.h5", "-q")
    assert read_all("joined.h5") == read_all("one.h5")


def test_a_missing_part_is_named(inputs: Arrays) -> None:
    parts = make_parts("align", FEATURES, ROIS, *SCALE, count=3)
    words = ("--shard 2/3", "2 of 5 RoIs are in no part", "RoI 2, 4")
    refuse("merge", parts[0], parts[2], "-o", "x.h5", words=words)


def test_parts_of_two_splits_that_overlap(inputs: Arrays) -> None:
    halves = make_parts("align", FEATURES, ROIS, *SCALE, count=2, prefix="half")
    thirds = make_parts("align", FEATURES, ROIS, *SCALE, count=3, prefix="third")
    words = ("half-1.h5", "third-1.h5", "RoI 0")
    refuse("merge", *halves, thirds[0], "-o", "x.h5", words=words)
    refuse("merge", halves[0], halves[0], "-o", "x.h5", words=("half-1.h5", "twice"))


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--sampling-ratio", "3"), ("sampling_ratio is 3", "it is 2")),
        (("--dtype", "float64"), ("dtype is float64", "it is float32")),
        (("--provider", "cpu"), ("provider_requested is cpu", "auto")),
        (("--values",), ("values is true", "it is false")),
    ],
)
def test_parts_that_disagree(inputs: Arrays, option: Any, words: Any) -> None:
    one = make_parts("align", FEATURES, ROIS, *SCALE, count=2)[0]
    other = make_parts("align", FEATURES, ROIS, *SCALE, *option, count=2, prefix="other")[1]
    refuse("merge", one, other, "-o", "x.h5", words=(one, other, *words))


def test_parts_of_other_inputs(inputs: Arrays) -> None:
    one = make_parts("align", FEATURES, ROIS, *SCALE, count=2)[0]
    moved = inputs[1].copy()
    moved[0, 1] += 1
    save(ROIS, moved)
    other = make_parts("align", FEATURES, ROIS, *SCALE, count=2, prefix="other")[1]
    refuse("merge", one, other, "-o", "x.h5", words=(one, other, "RoIs' contents"))


def test_a_copied_input_has_another_time_and_is_the_same(inputs: Arrays) -> None:
    parts = make_parts("align", FEATURES, ROIS, *SCALE, count=1)
    os.utime(FEATURES, (1, 1))
    succeed("align", FEATURES, ROIS, *SCALE, "--shard", "1/2", "-o", "a.h5", "-q")
    os.utime(FEATURES, (2, 2))
    succeed("align", FEATURES, ROIS, *SCALE, "--shard", "2/2", "-o", "b.h5", "-q")
    succeed("merge", "a.h5", "b.h5", "-o", "joined.h5", "-q")
    succeed("merge", *parts, "-o", "one.h5", "-q")
    assert read_all("joined.h5") == read_all("one.h5")


@pytest.mark.parametrize(
    "name", ["roi_features", "rois", "quantization_error", "rows", "row_crc32"]
)
def test_a_damaged_part_is_refused(inputs: Arrays, name: str) -> None:
    parts = make_parts("align", FEATURES, ROIS, *SCALE, count=2)
    with h5py.File(parts[1]) as file:
        offset = file[name].id.get_offset()
    data = bytearray(Path(parts[1]).read_bytes())
    data[offset] ^= 1
    Path(parts[1]).write_bytes(data)
    refuse("merge", *parts, "-o", "x.h5", words=(parts[1],))
    refuse("merge", *parts, "-o", "x.npy", words=(parts[1],))


def test_a_part_cut_short_is_refused(inputs: Arrays) -> None:
    parts = make_parts("align", FEATURES, ROIS, *SCALE, count=2)
    data = Path(parts[1]).read_bytes()
    for size in (0, 100, len(data) // 2, len(data) - 1):
        Path(parts[1]).write_bytes(data[:size])
        refuse("merge", *parts, "-o", "x.h5", words=(parts[1],))


def test_what_is_no_part(inputs: Arrays) -> None:
    succeed("align", FEATURES, ROIS, *SCALE, "-o", "whole.h5", "-q")
    refuse("merge", "whole.h5", "-o", "x.h5", words=("whole.h5", "no part"))
    refuse("merge", FEATURES, "-o", "x.h5", words=(FEATURES,))
    refuse("merge", "absent.h5", "-o", "x.h5", words=("absent.h5", "no such file"))
    save_h5("odd.h5", roi_features=np.zeros((2, 1, 1, 1)), rows=np.arange(2),
            row_crc32=np.zeros(2, np.uint32))  # fmt: skip
    refuse("merge", "odd.h5", "-o", "x.h5", words=("odd.h5", "lacks the attributes"))
    for odd in (np.zeros(()), np.zeros((2, 1)), np.zeros((2, 1, 1, 1), "S3")):
        save_h5("odd.h5", roi_features=odd, rows=np.arange(2), row_crc32=np.zeros(2, np.uint32))
        refuse("merge", "odd.h5", "-o", "x.h5", words=("no part", "expected (K, C, P_h, P_w)"))


@pytest.mark.parametrize("name", ["part_fingerprint", "part_tables_crc32"])
@pytest.mark.parametrize("text", ["3", '["a", "b"]', "null", "{", '"x"'])
def test_what_a_part_says_of_itself_is_damaged(inputs: Arrays, name: str, text: str) -> None:
    (part,) = make_parts("align", FEATURES, ROIS, *SCALE, count=1)
    with h5py.File(part, "a") as file:
        file.attrs[name] = text
    refuse("merge", part, "-o", "x.h5", words=(part,))


def test_where_the_whole_may_go(inputs: Arrays) -> None:
    parts = make_parts("align", FEATURES, ROIS, *SCALE, count=2)
    refuse("merge", *parts, "-o", parts[0], "--force", words=("would overwrite",))
    refuse("merge", *parts, "-o", FEATURES, words=("exists already", "--force"))
    refuse("merge", *parts, "-o", "-", words=("unknown ending",))
    refuse("merge", *parts, "-o", "x.csv", words=("unknown ending",))


@pytest.mark.parametrize("shard", ["0/2", "3/2", "2", "a/b", "1/0"])
def test_what_is_no_shard(inputs: Arrays, shard: str) -> None:
    words = ("shard is", "expected I/N")
    refuse("align", FEATURES, ROIS, *SCALE, "--shard", shard, "-o", "p.h5", words=words)


@pytest.mark.parametrize("output", [("-o", "p.npy"), ("-o", "-"), ()])
def test_a_part_needs_an_h5_of_its_own(inputs: Arrays, output: tuple[str, ...]) -> None:
    refuse("align", FEATURES, ROIS, *SCALE, "--shard", "1/2", *output, words=(".h5", "-o"))
