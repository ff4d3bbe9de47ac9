"""Opening maps: scales, shapes, and what is refused."""

import h5py
import numpy as np
import pytest

from roicli.core.exceptions import InputError, ParameterError
from roicli.pipeline.features import MapBuffer, open_pyramid
from tests.log import logged
from tests.strategies import normal_map

MAPS = normal_map((2, 3, 8, 6))


def open_maps(features, names=(), scales=None):
    with logged() as notes:
        pyramid = open_pyramid(features, names, scales)
    return pyramid, notes


def write(path, **attributes):
    with h5py.File(path, "w") as file:
        file["maps"] = MAPS
        file["maps"].attrs.update(attributes)
    return path


@pytest.mark.parametrize(
    "value", [0.25, np.float32(0.25), [0.25], np.array([[0.25]]), "1/4", " 0.25", b"1/4", ["1/4"]]
)
def test_the_scale_is_the_datasets_attribute(tmp_path, value):
    pyramid, notes = open_maps(write(tmp_path / "x.h5", spatial_scale=value))
    assert (pyramid.levels[0].spatial_scale, pyramid.levels[0].level) == (0.25, 2)
    assert notes == []
    pyramid.close()


def test_a_given_scale_is_taken_before_the_attribute(tmp_path):
    pyramid, _ = open_maps(write(tmp_path / "x.h5", spatial_scale=0.25), scales=(0.1,))
    assert (pyramid.levels[0].spatial_scale, pyramid.levels[0].level) == (0.1, None)
    pyramid.close()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([0.25, 0.5], r"2 numbers, expected one; the operators have one scale for x and y"),
        (np.zeros(0), "0 numbers, expected one"),
        (h5py.Empty("f8"), "is Empty.*, expected a number or a fraction"),
        (b"x", "is 'x', expected a number or a fraction"),
        ("1/0", "is '1/0', expected a number or a fraction"),
        (np.bool_(True), "is True, expected a number"),
        (np.complex64(1), "expected a number"),
        ("-1/4", "expected a positive, finite number"),
    ],
)
def test_an_attribute_that_is_there_and_cannot_be_read_is_refused(tmp_path, value, words):
    """It is never taken for one that is missing, which would be a scale of 1."""
    with pytest.raises(InputError, match=f"attribute spatial_scale: spatial scale .*{words}"):
        open_maps(write(tmp_path / "x.h5", spatial_scale=value))


@pytest.mark.parametrize("value", [0.0, -0.25, np.nan, np.inf])
def test_an_attribute_that_is_no_scale_is_refused(tmp_path, value):
    with pytest.raises(InputError, match="attribute spatial_scale: spatial scale is"):
        open_maps(write(tmp_path / "x.h5", spatial_scale=value))


def test_a_given_number_that_is_no_scale_is_refused():
    with pytest.raises(ParameterError, match="spatial scale is -1"):
        open_maps(MAPS, scales=(-1.0,))


def test_without_a_scale_it_is_one_and_somebody_is_told(tmp_path):
    pyramid, notes = open_maps(write(tmp_path / "x.h5"))
    assert pyramid.levels[0].spatial_scale == 1.0
    assert len(notes) == 1
    pyramid.close()


def test_a_pyramid_needs_its_scales():
    with pytest.raises(InputError, match="a pyramid needs its scales"):
        open_maps([MAPS, MAPS[:, :, ::2, ::2]])


def test_levels_share_images_and_channels():
    with pytest.raises(InputError, match=r"are \(2, 1\), expected \(2, 3\) as in features\[0\]"):
        open_maps([MAPS, MAPS[:, :1]], scales=(0.5, 0.25))


def test_a_pyramid_is_computed_in_the_widest_type_of_its_levels():
    pyramid, _ = open_maps([MAPS.astype(np.float16), MAPS.astype(np.float64)], scales=(0.5, 0.25))
    assert pyramid.compute_dtype == np.float64
    image = pyramid.levels[0].read_image(1, MapBuffer(pyramid.compute_dtype))
    assert image.dtype == np.float64
    np.testing.assert_array_equal(image, MAPS[1].astype(np.float16))


def test_a_buffer_serves_maps_of_every_size():
    buffer = MapBuffer(np.dtype(np.float32))
    for shape in ((1, 2, 2, 2), (1, 3, 9, 9), (1, 1, 4, 4)):
        maps = normal_map(shape).astype(np.float16)
        pyramid, _ = open_maps(maps)
        np.testing.assert_array_equal(pyramid.levels[0].read_image(0, buffer), maps[0])


def test_an_image_larger_than_the_machine_is_refused_unread(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("maps", (1, 1 << 12, 1 << 16, 1 << 16), "f4", chunks=(1, 1, 64, 64))
    with pytest.raises(InputError, match=r"one image of shape \(4096, 65536, 65536\)"):
        open_maps(tmp_path / "x.h5")


def test_files_are_closed_when_the_pyramid_is_refused(tmp_path):
    path = write(tmp_path / "x.h5", spatial_scale=0.25)
    with pytest.raises(ParameterError):
        open_maps(path, scales=(0.5, 0.25))
    with h5py.File(path, "r+"):  # a file still open for reading could not be opened for writing
        pass


def test_maps_are_counted_in_the_type_that_they_are_computed_in():
    """A float32 level beside a float64 one is upcast."""
    maps = [np.zeros((1, 2, 8, 8), np.float32), np.zeros((1, 2, 4, 4), np.float64)]
    assert open_pyramid(maps[:1], (), (1.0,)).buffer_bytes == [2 * 64 * 4]
    assert open_pyramid(maps, (), (1.0, 0.5)).buffer_bytes == [2 * 64 * 12, 2 * 16 * 8]
