"""Files of arrays: what is stored, what it is taken for, and the values."""

import h5py
import numpy as np
import pytest

import roicli
from roicli.analysis.inspect_file import inspect
from roicli.core.exceptions import InputError
from roicli.storage.address import parse_address
from roicli.storage.array import BLOCK_BYTES, split_into_blocks
from roicli.storage.open import open_array, read_contents

VALUES = np.random.default_rng(0).normal(3, 2, size=(2, 3, 8, 6)).astype(np.float32)
ROIS = np.array([[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]], np.float32)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "file.h5")


def by_name(report):
    return {d.stored.address.rpartition("::")[2]: d for d in report.datasets}


def test_everything_about_a_dataset(path):
    with h5py.File(path, "w") as file:
        file.attrs["source"] = "here"
        dataset = file.create_dataset(
            "maps/p3", data=VALUES, chunks=(1, 3, 8, 6), compression="gzip", shuffle=True
        )
        dataset.attrs["spatial_scale"] = 1 / 8
        dataset.attrs["names"] = [b"a", b"b"]
        file.create_dataset("rois", data=ROIS)
    report = inspect(path, stats=True)
    assert (report.file_format, report.attributes) == ("hdf5", {"source": "here"})
    maps, rois = by_name(report)["/maps/p3"], by_name(report)["/rois"]
    assert (maps.stored.shape, maps.stored.dtype) == ((2, 3, 8, 6), "float32")
    assert (maps.stored.layout, maps.stored.chunks) == ("chunked", (1, 3, 8, 6))
    assert maps.stored.compression == "shuffle, gzip 4"
    assert 0 < maps.stored.stored_bytes < VALUES.nbytes
    assert maps.stored.attributes == {"spatial_scale": 0.125, "names": ["a", "b"]}
    assert maps.usable_as == "features"
    assert "stride 8, level 3: an image of 64 x 48 px (height x width)" in maps.why
    assert (rois.stored.layout, rois.stored.stored_bytes, rois.usable_as) == (
        "contiguous", 40, "rois",
    )  # fmt: skip
    assert report.features.address == f"{path}::/maps/p3"
    assert report.rois.address == f"{path}::/rois"


DATASETS = {
    "one": {"maps": VALUES, "rois": ROIS},
    "two": {"p3": VALUES, "p4": VALUES, "a": ROIS, "b": ROIS},
    "three columns": {"maps": VALUES[0], "rois": ROIS[:, 1:]},
    "odd": {"table": ROIS[:, :3], "number": np.float32(3), "levels": np.arange(3)},
    "text": {"maps": VALUES.astype("S4"), "complex": ROIS.astype(complex)},
    "none": {},
}


@pytest.mark.parametrize("case", DATASETS)
def test_what_is_taken_is_what_is_opened(path, case):
    with h5py.File(path, "w") as file:
        for name, values in DATASETS[case].items():
            file[name] = values
        file["nothing"] = h5py.Empty("f4")
    report = inspect(path)
    for role, choice in (("features", report.features), ("rois", report.rois)):
        if choice.address is None:
            with pytest.raises(InputError):
                open_array(parse_address(path), role)
        else:
            stored = open_array(parse_address(path), role)
            assert stored.name == choice.address
            stored.close()


def test_why_nothing_is_taken(path):
    with h5py.File(path, "w") as file:
        for name in ("p3", "p4"):
            file[name] = VALUES
    report = inspect(path)
    assert "2 datasets are numeric and 4-D" in report.features.why
    assert "--levels p3,p4" in report.features.why
    assert report.rois.why == "no dataset is numeric and 2-D with 5 columns"


def test_groups_and_datasets_by_name(path):
    with h5py.File(path, "w") as file:
        file["a/x"], file["b/y"] = VALUES, ROIS
    assert list(by_name(inspect(f"{path}::/b"))) == ["/b/y"]
    assert list(by_name(inspect(f"{path}::/a/x"))) == ["/a/x"]
    with pytest.raises(InputError, match="has no dataset"):
        inspect(f"{path}::/c")


def test_layouts_and_types_of_hdf5(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("lzf", data=VALUES, compression="lzf", fletcher32=True)
        space, plist = h5py.h5s.create_simple((2,)), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        h5py.h5d.create(file.id, b"compact", h5py.h5t.IEEE_F32LE, space, plist)
        layout = h5py.VirtualLayout(shape=(2, 5), dtype="f4")
        layout[:] = h5py.VirtualSource(path, "boxes", shape=(2, 5))
        file["boxes"] = ROIS
        file.create_virtual_dataset("virtual", layout)
        file["table"] = np.zeros(3, [("roi", "i4"), ("iou", "f8")])
        file["empty"] = np.zeros((0, 5), "f4")
    found = by_name(inspect(path, stats=True))
    assert found["/lzf"].stored.compression.startswith("lzf, fletcher32") or (
        set(found["/lzf"].stored.compression.split(", ")) == {"lzf", "fletcher32"}
    )
    assert found["/compact"].stored.layout == "compact"
    assert found["/virtual"].stored.layout == "virtual"
    assert found["/virtual"].values.max == 5
    assert found["/table"].usable_as is None
    assert "no boxes by these names" in found["/table"].why
    assert found["/table"].values is None
    assert (found["/empty"].values.min, found["/empty"].values.zeros) == (None, 0)


def test_attributes_of_every_kind(path):
    with h5py.File(path, "w") as file:
        file.attrs["text"] = "x" * 2000
        file.attrs["many"] = np.arange(100)
        file.attrs["nan"] = np.nan
        file.attrs["nothing"] = h5py.Empty("f4")
        file.attrs["reference"] = file.ref
        file.attrs["flag"] = True
    attributes = inspect(path).attributes
    assert attributes["text"].endswith("...")
    assert attributes["many"][-2:] == [15, "..."]
    assert (attributes["nan"], attributes["flag"]) == ("nan", True)
    assert isinstance(attributes["nothing"], str)
    assert isinstance(attributes["reference"], str)


def test_an_empty_text_of_pytables_is_an_empty_text(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("maps", data=VALUES).attrs["TITLE"] = h5py.Empty("S1")
    (maps,) = inspect(path).datasets
    assert maps.stored.attributes["TITLE"] == ""


@pytest.mark.parametrize("scale", [0.0, -1.0, "1/8", [0.5, 0.5], np.nan, True])
def test_a_scale_that_is_none(path, scale):
    with h5py.File(path, "w") as file:
        file["maps"] = VALUES
        file["maps"].attrs["spatial_scale"] = scale
    assert "no stride known" in inspect(path).datasets[0].why


NPY = {
    "C": VALUES, "F": np.asfortranarray(VALUES), "big": VALUES.astype(">f4"),
    "half": VALUES.astype("f2"), "int": (VALUES * 10).astype("i2"), "image": VALUES[0],
}  # fmt: skip


@pytest.mark.parametrize("kind", NPY)
def test_npy_and_its_values(tmp_path, kind):
    values = NPY[kind]
    np.save(tmp_path / "f.npy", values)
    report = inspect(tmp_path / "f.npy", stats=True)
    (dataset,) = report.datasets
    assert dataset.stored.layout == ("Fortran order" if kind == "F" else "C order")
    assert report.features.address == str(tmp_path / "f.npy")
    assert report.rois.address is None
    found, wide = dataset.values, values.astype(np.float64)
    assert (found.min, found.max) == (wide.min(), wide.max())
    assert found.mean == pytest.approx(wide.mean(), rel=1e-12)
    assert found.std == pytest.approx(wide.std(), rel=1e-12)
    assert found.zeros == np.count_nonzero(values == 0)


def test_bfloat16_is_widened(tmp_path):
    import ml_dtypes

    np.save(tmp_path / "f.npy", VALUES.astype(ml_dtypes.bfloat16))
    (dataset,) = inspect(tmp_path / "f.npy", stats=True).datasets
    assert dataset.stored.dtype == "bfloat16"
    assert dataset.values.max == VALUES.astype(ml_dtypes.bfloat16).astype(float).max()


def test_odd_values_are_counted_apart(tmp_path):
    values = np.array([np.nan, np.inf, -np.inf, 0, 2, 4])
    np.save(tmp_path / "v.npy", values)
    found = inspect(tmp_path / "v.npy", stats=True).datasets[0].values
    assert (found.min, found.max, found.mean) == (0, 4, 2)
    assert (found.nan, found.infinite, found.zeros) == (1, 2, 1)
    assert inspect(tmp_path / "v.npy").datasets[0].values is None
    np.save(tmp_path / "v.npy", values[:2])
    assert inspect(tmp_path / "v.npy", stats=True).datasets[0].values.mean is None


@pytest.mark.parametrize("size", [1.7e308, 1e200, 1e-200, 1e-320])
def test_numbers_of_every_size(tmp_path, size):
    """Sums, differences and squares of which fit no float64; two blocks of opposite signs."""
    values = np.concatenate([np.full((300, 4096), size), np.full((300, 4096), -size)])
    np.save(tmp_path / "v.npy", values)
    found = inspect(tmp_path / "v.npy", stats=True).datasets[0].values
    assert (found.min, found.max) == (-size, size)
    assert abs(found.mean) <= 1e-9 * size
    assert found.std == pytest.approx(size, rel=1e-3)


@pytest.mark.parametrize("values", [[2**53 + 1, 5], [2**64 - 1, 2**64 - 2], [-(2**63), 3]])
def test_integers_are_themselves(tmp_path, values):
    np.save(tmp_path / "v.npy", np.array(values, np.uint64 if max(values) > 2**63 else np.int64))
    found = inspect(tmp_path / "v.npy", stats=True).datasets[0].values
    assert (found.min, found.max) == (min(values), max(values))


def test_a_large_mean_does_not_cancel(tmp_path):
    values = np.random.default_rng(0).normal(1e8, 1, size=100_000)
    np.save(tmp_path / "v.npy", values)
    found = inspect(tmp_path / "v.npy", stats=True).datasets[0].values
    assert found.std == pytest.approx(values.std(), rel=1e-6)


def test_text(tmp_path):
    (tmp_path / "r.csv").write_text("0,1,2,3,4\n1,2,3,4,5\n")
    report = inspect(tmp_path / "r.csv")
    assert report.rois.address == str(tmp_path / "r.csv")
    assert report.features.address is None


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [((5, 7, 1000, 999), None), ((3, 40, 800, 900), (1, 4, 800, 900)), ((0, 5), None), ((), None),
     ((70_000_000,), None), ((2, 1, 5000, 5000), (2, 1, 5000, 5000)), ((1 << 62, 0, 3), None)],
)  # fmt: skip
def test_blocks_cover_everything_once_and_are_bounded(shape, chunks):
    sizes = []
    total = 0
    for place in split_into_blocks(shape, 4, chunks):
        size = int(np.prod([float(part.stop - part.start) for part in place]))
        sizes.append(size * 4)
        total += size
    assert total == int(np.prod([float(side) for side in shape]))
    chunk = 4 * int(np.prod([float(side) for side in chunks or (1,)]))
    assert max(sizes, default=0) <= max(BLOCK_BYTES, chunk)


def test_blocks_put_together_are_the_array(tmp_path, monkeypatch):
    monkeypatch.setattr("roicli.storage.array.BLOCK_BYTES", 100)
    np.save(tmp_path / "f.npy", VALUES)
    contents = read_contents(parse_address(str(tmp_path / "f.npy")))
    blocks = list(contents.datasets[0].blocks())
    assert len(blocks) > 10
    joined = np.concatenate([block.reshape(-1) for block in blocks])
    assert np.array_equal(joined, VALUES.reshape(-1))
    assert inspect(tmp_path / "f.npy", stats=True).datasets[0].values.std == pytest.approx(
        VALUES.std(dtype=np.float64)
    )


@pytest.mark.parametrize("name", ["-", "none.h5", "file.txt", "x.npy::/a", "x.onnx::node"])
def test_what_cannot_be_inspected(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", VALUES)
    with pytest.raises(InputError):
        inspect(name)


def test_a_result_of_roicli_is_understood(path):
    roicli.align(VALUES, ROIS, path, spatial_scale=1.0)
    found = by_name(inspect(path))
    assert found["/roi_features"].usable_as == "features"
    assert found["/rois"].usable_as == "rois"
    assert found["/quantization_error"].usable_as == "rois"  # its boxes have names


def test_a_damaged_chunk_is_named(path):
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("maps", data=VALUES, chunks=(1, 3, 8, 6), compression="gzip")
        chunk = dataset.id.get_chunk_info(1)
    with open(path, "r+b") as stream:
        stream.seek(chunk.byte_offset)
        stream.write(b"\xff" * 64)
    assert inspect(path).datasets[0].values is None
    with pytest.raises(InputError, match="::/maps: cannot be read"):
        inspect(path, stats=True)


def test_a_tflite_model_is_known_by_its_first_bytes(tmp_path):
    (tmp_path / "m.bin").write_bytes(b"\x1c\0\0\0TFL3" + bytes(64))
    with pytest.raises(InputError, match="is a TFLite model") as caught:
        inspect(tmp_path / "m.bin")
    assert "tf2onnx" in caught.value.hint
