"""Maps and RoIs that a Python program hands over as objects, of every library that is there."""

import logging
import sys
import types

import h5py
import numpy as np
import pytest

import roicli
from roicli.core.exceptions import InputError, ParameterError
from roicli.storage import exchange
from tests.log import logged
from tests.strategies import normal_map

MAPS = normal_map((2, 3, 16, 20), seed=3)
ROIS = np.array([[0, 3, 4, 100, 90], [1, 20.5, 10, 200, 130], [0, 7, 7, 60, 60]], np.float32)
# What a list an image has first.
BY_IMAGE = [0, 2, 1]
BOXES = [ROIS[[0, 2], 1:], ROIS[[1], 1:]]
GIVEN = {"spatial_scale": 1 / 16, "output_size": (2, 3), "provider": "cpu"}
# JAX says so of every fork once it is loaded, and HDF5 is read by children.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork.. was called:RuntimeWarning")
NAMES = ["image", "x1", "y1", "x2", "y2"]


def align(features=MAPS, rois=ROIS, **options):
    """What RoI Align gives of objects."""
    return roicli.align(features, rois, **{**GIVEN, **options})


@pytest.fixture(scope="module")
def expected():
    """What it gives of NumPy's arrays."""
    return align().roi_features


def same(found, expected, order=(0, 1, 2)):
    """Whether a result has the bits of the rows of another."""
    np.testing.assert_array_equal(found.roi_features, expected[list(order)])


# --- arrays -----------------------------------------------------------------------------------


class OnlyDlpack:
    """An array that only DLPack can read."""

    def __init__(self, values, device=(1, 0)):
        self.values, self.device, self.copied = values, device, False

    def __dlpack__(self, *, dl_device=None, copy=None, **more):
        assert self.device[0] == 1 or dl_device == (1, 0), "it is asked for where it is not"
        self.copied = dl_device is not None
        return self.values.__dlpack__(**more)

    def __dlpack_device__(self):
        return self.device


class OnlyArray:
    """An array that only NumPy's protocol can read."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values


class OnDevice(OnlyArray):
    """An array of CuPy's kind: NumPy may not read it unasked."""

    __cuda_array_interface__ = None

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __dlpack_device__(self):
        return (2, 1)

    def get(self):
        return self.values


@pytest.mark.parametrize("made", [OnlyDlpack, OnlyArray])
def test_a_protocol_is_enough(made, expected):
    same(align(made(MAPS), made(ROIS)), expected)
    same(align([made(MAPS)], made(ROIS)), expected)


@pytest.mark.parametrize("made", [lambda values: OnlyDlpack(values, (2, 0)), OnDevice])
def test_what_is_on_a_device_is_copied_and_said(made, expected):
    with logged() as lines:
        same(align(made(MAPS)), expected)
    assert sum("is copied to the host" in line for line in lines) == 1


def test_tensors_of_pytorch(expected):
    torch = pytest.importorskip("torch")
    maps, rois = torch.from_numpy(MAPS.copy()), torch.from_numpy(ROIS.copy())
    same(align(maps, rois), expected)
    same(align(maps.clone().requires_grad_(), rois.clone().requires_grad_()), expected)
    same(align(maps.contiguous(memory_format=torch.channels_last), rois), expected)
    same(align(torch.nn.Parameter(maps), rois, level_from=None), expected)
    for dtype in (torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2):
        narrow = maps.to(dtype)
        found = align(narrow, rois)
        same(found, align(narrow.float().numpy()).roi_features)
        assert found.parameters["features_dtype"] == [str(dtype).removeprefix("torch.")]
    for odd in (maps.to_sparse(), maps.to("meta")):
        with pytest.raises(ParameterError, match=r"features\[0\]: torch.Tensor cannot be read"):
            align(odd)


def test_boxes_that_are_no_corners_and_say_so(expected):
    pytest.importorskip("torchvision")
    from torchvision.tv_tensors import BoundingBoxes

    sizes = BOXES[0] - np.concatenate([np.zeros_like(BOXES[0][:, :2]), BOXES[0][:, :2]], axis=1)
    for values, form in ((BOXES[0], "XYXY"), (sizes, "XYWH")):
        boxes = BoundingBoxes(values, format=form, canvas_size=(256, 320))
        same(align(MAPS[:1], boxes, roi_format=form.lower()), expected, [0, 2])
        if form != "XYXY":
            for given in (boxes, [boxes]):
                with pytest.raises(ParameterError, match="XYWH, expected XYXY"):
                    align(MAPS[:1], given)


def test_arrays_of_jax(expected):
    jax = pytest.importorskip("jax.numpy")
    same(align(jax.asarray(MAPS), jax.asarray(ROIS)), expected)
    narrow = jax.asarray(MAPS).astype(jax.bfloat16)
    found = align(narrow)
    same(found, align(np.asarray(narrow, np.float32)).roi_features)
    assert found.parameters["features_dtype"] == ["bfloat16"]


# --- arrays on a disk -------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch):
    """How many values each read of a sliced array asks for."""
    sizes, read = [], exchange.SlicedArray.read

    def count(self, place, out):
        sizes.append(out.size)
        return read(self, place, out)

    monkeypatch.setattr(exchange.SlicedArray, "read", count)
    return sizes


def fill(group):
    """Put the arrays, with the scale beside the maps, into a file."""
    group.create_dataset("maps", data=MAPS, chunks=(1, *MAPS.shape[1:]))
    group["maps"].attrs["spatial_scale"] = 1 / 16
    group["rois"] = ROIS


def test_a_dataset_of_a_file_is_its_address(tmp_path, expected):
    path = tmp_path / "maps.h5"
    with h5py.File(path, "w") as file:
        fill(file)
    with h5py.File(path) as file:
        found = align(file["maps"], file["rois"], spatial_scale=None)
        same(found, expected)
        assert found.parameters["features_name"] == [str(path)]
        assert found.parameters["features_dataset"] == ["/maps"]
        same(align(file, file["rois"], levels="maps", spatial_scale=None), expected)


def test_a_file_that_is_being_written_is_read_image_by_image(tmp_path, expected, counted):
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        fill(file)
        same(align(file["maps"], file["rois"], spatial_scale=None), expected)
    assert max(counted) == MAPS[0].size
    with h5py.File("none", "w", driver="core", backing_store=False) as file:
        fill(file)
        same(align(file["maps"], file["rois"], spatial_scale=None), expected)


def test_arrays_of_zarr(tmp_path, expected, counted):
    zarr = pytest.importorskip("zarr")
    for place in (tmp_path / "maps.zarr", zarr.storage.MemoryStore()):
        array = zarr.create_array(place, shape=MAPS.shape, chunks=(1, 3, 16, 20), dtype="f4")
        array[:] = MAPS
        array.attrs["spatial_scale"] = 1 / 16
        same(align(array, spatial_scale=None), expected)
        assert all(size == MAPS[0].size for size in counted)
    assert len(counted) == 2  # of the one in memory, the other is its address
    group = zarr.create_group(tmp_path / "group.zarr")
    group.create_array("maps", data=MAPS)
    same(align(group), expected)
    same(align(group, levels="maps"), expected)


def test_bfloat16_of_h5py(expected):
    import ml_dtypes

    narrow = MAPS.astype(ml_dtypes.bfloat16)
    with h5py.File("none", "w", driver="core", backing_store=False) as file:
        file["maps"] = narrow.view("V2")
        same(align(file["maps"]), align(narrow).roi_features)


# --- RoIs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "boxes",
    [
        BOXES,
        tuple(map(OnlyArray, BOXES)),
        [one.tolist() for one in BOXES],
        [{"boxes": one, "scores": np.ones(len(one))} for one in BOXES],
    ],
    ids=["arrays", "objects", "lists", "mappings"],
)
def test_boxes_of_each_image(boxes, expected):
    if isinstance(boxes[0], OnlyArray):
        boxes = [np.asarray(one) for one in boxes]
    found = align(rois=boxes)
    same(found, expected, BY_IMAGE)
    assert found.errors.column("batch_index").tolist() == [0, 0, 1]


def test_images_without_boxes(expected):
    empty = np.empty((0, 4), np.float32)
    same(align(rois=[BOXES[0], empty]), expected, [0, 2])
    same(align(rois=[BOXES[0], []]), expected, [0, 2])
    same(align(rois=[{"boxes": BOXES[0]}, {"boxes": empty}]), expected, [0, 2])
    assert align(rois=[empty, empty]).roi_features.shape == (0, 3, 2, 3)


def test_detections_of_supervision(expected, monkeypatch):
    """Their class is known where the library is loaded; an image without any has no classes."""

    class Detections:
        def __init__(self, rows, **data):
            self.xyxy, self.data = ROIS[rows, 1:], data
            self.confidence = np.array([0.5] * len(rows)) if rows else None
            self.class_id, self.tracker_id = np.arange(len(rows)), None

    library = types.ModuleType("supervision")
    library.Detections = Detections
    monkeypatch.setitem(sys.modules, "supervision", library)
    found = align(rois=[Detections([0, 2], class_name=["a", "c"]), Detections([])])
    same(found, expected, [0, 2])
    assert found.errors.column("class_name").tolist() == [b"a", b"c"]
    same(align(MAPS[:1], Detections([0, 2])), expected, [0, 2])


def test_records_a_roi_each(expected):
    """As DataFrame.to_dict("records") gives them."""
    same(align(rois=[dict(zip(NAMES, row, strict=True)) for row in ROIS.tolist()]), expected)


def frames():
    """The RoIs as tables of the libraries that are there; the class of one has no name."""
    columns = dict(zip(NAMES, ROIS.T, strict=True)) | {"name": ["a", None, "c"], "count": [1, 2, 3]}
    yield {key: value for key, value in columns.items() if key != "name"}
    for library, make in (("pandas", "DataFrame"), ("polars", "DataFrame"), ("pyarrow", "table")):
        module = pytest.importorskip(library)
        yield getattr(module, make)(columns)


def test_tables_of_other_libraries(expected):
    for table in frames():
        found = align(rois=table)
        same(found, expected)
        assert found.errors.column("count").tolist() == [1, 2, 3]
        if not isinstance(table, dict):
            assert found.errors.column("name").tolist() == [b"a", b"", b"c"]


def test_a_frame_as_data_sets_have_it(expected):
    pandas = pytest.importorskip("pandas")
    sizes = np.column_stack([ROIS[:, 1:3], ROIS[:, 3:] - ROIS[:, 1:3]])
    frame = pandas.DataFrame(
        {
            "image_id": pandas.array([0, 1, 0], dtype="Int64"),
            "bbox": sizes.tolist(),
            "rank": pandas.array([1, None, 3], dtype="Int64"),
            "kind": pandas.Categorical(["u", "v", "u"]),
            "segmentation": [[[1, 2]], [[1, 2, 3]], {"size": 1}],
        }
    )
    with logged() as lines:
        found = align(rois=frame)
    same(found, expected)
    assert any("left out: segmentation" in line for line in lines)
    np.testing.assert_array_equal(found.errors.column("rank"), [1, np.nan, 3])
    assert found.errors.column("kind").tolist() == [b"u", b"v", b"u"]


# --- pyramids ---------------------------------------------------------------------------------


def test_levels_by_their_names():
    levels = {"0": MAPS, "1": MAPS[:, :, ::2, ::2].copy(), "pool": MAPS[:, :, ::4, ::4].copy()}
    scales = {"spatial_scale": "1/16,1/32", "level_from": np.array([4, 5, 4])}
    expected = align([levels["0"], levels["1"]], **scales)
    for given in (levels, {name: OnlyDlpack(one) for name, one in levels.items()}):
        found = align(given, levels=["0", "1"], **scales)
        same(found, expected.roi_features)
        assert found.parameters["features_name"] == ["features['0']", "features['1']"]
    with pytest.raises(ParameterError, match="no level 'p2'; their levels: 0, 1, pool"):
        align(levels, levels="p2")


# --- everything else --------------------------------------------------------------------------


def test_no_features_are_refused_by_every_call_that_needs_some():
    for call in (
        lambda: roicli.check(None, ROIS),
        lambda: roicli.diagnose(None, ROIS, MAPS),
        lambda: roicli.explain(None, ROIS, roi=0),
    ):
        with pytest.raises(ParameterError, match=r"features are None|NoneType is no array"):
            call()


@pytest.mark.parametrize(
    ("features", "rois", "message"),
    [
        (None, ROIS, "features are None"),
        (object(), ROIS, r"features\[0\]: object is no array"),
        (MAPS.tolist(), ROIS, r"features\[0\]: list is no array"),
        (5, ROIS, r"features\[0\]: int is no array"),
        ([], ROIS, "features are an empty list"),
        (MAPS, None, "rois: NoneType is no array"),
        (MAPS, print, "rois: builtin_function_or_method is no array"),
        (MAPS, {1, 2}, "rois: set is no array"),
        (MAPS, [[0, 1, 1, 5, 5], [0, 1, 1, 5]], "rois: list cannot be read"),
        (MAPS, {"x1": [1, 2], "y1": [1, 2, 3]}, "columns have rows: x1 2, y1 3"),
        (MAPS, [{"boxes": BOXES[0]}, {"box": BOXES[1]}], r"rois\[1\] has box, expected what"),
        (MAPS, [{}, {}], r"rois\[0\] is empty"),
        (MAPS, [np.ones((2, 5)), np.ones((1, 5))], "boxes with 5 columns"),
        (np.ma.masked_greater(MAPS, 1), ROIS, "values are masked; fill them"),
    ],
)  # fmt: skip
def test_what_is_no_input_is_said(features, rois, message):
    with pytest.raises(ParameterError, match=message):
        align(features, rois)


def test_lists_of_boxes_are_of_as_many_images_as_there_are_maps():
    for boxes, count in ((BOXES[:1], 1), ([*BOXES, BOXES[0]], 3)):
        with pytest.raises(InputError, match=f"a list of {count} are RoIs of {count} images"):
            align(rois=boxes)
    with pytest.raises(InputError, match=r"boxes of images have shapes \(2, 4\), \(1, 5\)"):
        align(rois=[BOXES[0], np.ones((1, 5))])
    with pytest.raises(ParameterError, match="says whose image a RoI is, and --image-from"):
        align(rois=BOXES, image_from=np.array([0, 0, 1]))


def test_exchanged_inputs_are_recognized_and_named(tmp_path):
    np.save(tmp_path / "maps.npy", MAPS)
    np.save(tmp_path / "rois.npy", ROIS)
    for features, rois in (
        (ROIS, MAPS),
        (BOXES, MAPS),
        (tmp_path / "rois.npy", tmp_path / "maps.npy"),
        (ROIS, {"p4": MAPS}),
    ):
        with pytest.raises(InputError, match=r"features and RoIs are exchanged: .* \(3, [45]\)"):
            align(features, rois)
    with pytest.raises(InputError, match=r"features have shape \(3, 5\), expected"):
        align(ROIS, ROIS)
    with logged(logging.WARNING) as warnings, pytest.raises(InputError, match="expected"):
        align(MAPS, MAPS)
    assert not warnings


def test_an_empty_mapping_is_no_pyramid():
    with pytest.raises(ParameterError, match="features are an empty mapping"):
        roicli.align({}, np.zeros((1, 5)))


def test_a_frame_that_counts_its_columns_is_an_array():
    pandas = pytest.importorskip("pandas")
    rois = np.array([[0, 1, 2, 9, 8], [0, 3, 3, 5, 9]], np.float32)
    of_frame = roicli.errors(pandas.DataFrame(rois), spatial_scale=1 / 4)
    np.testing.assert_array_equal(of_frame["iou"], roicli.errors(rois, spatial_scale=1 / 4)["iou"])
