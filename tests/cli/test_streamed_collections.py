"""Collections of more images than are looked at before a run: the others are met on its way."""

import os
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest

import roicli
from roicli.core.exceptions import DamagedFileError, InputError
from roicli.pipeline import map_collection, run, stream
from roicli.pipeline.map_collection import MapCollection
from tests.log import logged

RNG = np.random.default_rng(8)
IMAGES = 13
MAPS = [RNG.normal(size=(2, 6 + n % 4, 9 - n % 3)).astype(np.float32) for n in range(IMAGES)]
# Of all images but two, whose maps nobody needs.
ROIS = np.array(
    [[n, x, 2, 3 * x + 7, 15] for n in range(IMAGES) if n not in (0, 5) for x in (1, 6)],
    np.float32,
)
OPTIONS = {"spatial_scale": 1 / 4, "output_size": 2}
PATTERNS = ["maps/{image}.npy", "m.h5::{image}/p3", "packed.h5::{image}", "m.npz::{image}"]


@pytest.fixture(autouse=True)
def few(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the data set four images are looked at before, and the others two by two."""
    monkeypatch.setattr(map_collection, "FEW", 4)
    monkeypatch.setattr(map_collection, "SPOTS", 2)
    monkeypatch.setattr(map_collection, "AT_ONCE", 2)
    monkeypatch.setattr(stream, "HANDED_OVER_BYTES", 1)  # each map for itself
    Path("maps").mkdir()
    with h5py.File("m.h5", "w") as file, h5py.File("packed.h5", "w") as packed:
        for number, values in enumerate(MAPS):
            np.save(f"maps/{number}.npy", values)
            file[f"{number}/p3"] = values
            packed.create_dataset(str(number), data=values, compression="lzf")
    np.savez("m.npz", **{str(number): values for number, values in enumerate(MAPS)})
    np.save("rois.npy", ROIS)


def contents_of(path):
    """The bytes of a result, and the largest map that it tells of."""
    with h5py.File(path) as file:
        told = {**file.attrs, **file["roi_features"].attrs}
        arrays = [file[name][()].tobytes() for name in ("roi_features", "quantization_error")]
        return [*arrays, np.asarray(told["features_shape"]).tolist()]


def everything_is_looked_at(monkeypatch):
    monkeypatch.setattr(map_collection, "FEW", IMAGES)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_run_begins_before_all_maps_are_known_and_ends_alike(pattern, monkeypatch):
    met, known = [], []
    real = MapCollection._look_at

    def look_at(self, start, stop):
        met.append(stop - start)
        real(self, start, stop)

    monkeypatch.setattr(MapCollection, "_look_at", look_at)
    roicli.align(pattern, "rois.npy", "o.h5", **OPTIONS, force=True,
                 progress=lambda done, total, size: known.append(sum(met)))  # fmt: skip
    assert known[0] == 4 < IMAGES - 2
    assert met[:2] == [2, 2]
    assert max(met) == 2
    everything_is_looked_at(monkeypatch)
    roicli.align(pattern, "rois.npy", "all.h5", **OPTIONS)
    assert contents_of("o.h5") == contents_of("all.h5")


@pytest.mark.contained
@pytest.mark.parametrize("pattern", PATTERNS[1:3])
def test_children_look_and_read_as_the_run_goes(pattern, monkeypatch):
    found = roicli.align(pattern, "rois.npy", **OPTIONS).roi_features
    expected = roicli.align("maps/{image}.npy", "rois.npy", **OPTIONS).roi_features
    np.testing.assert_array_equal(found, expected)
    with h5py.File("m.h5", "a") as file:
        del file["9/p3"]
        file["9/p3"] = np.zeros((3, 2, 5, 5), np.float32)
    with pytest.raises(InputError, match=r"m.h5::/9/p3: has 3 images, expected one map"):
        roicli.align("m.h5::{image}/p3", "rois.npy", "bad.h5", **OPTIONS)
    here, real = os.getpid(), map_collection.renew_time

    def crash():
        real()
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGSEGV)

    monkeypatch.setattr(map_collection, "renew_time", crash)
    with pytest.raises(DamagedFileError, match=r"m.h5: is damaged: HDF5 crashed reading it"):
        roicli.align("m.h5::{image}/p3", "rois.npy", "bad.h5", **OPTIONS)
    assert not [name for name in os.listdir() if "bad" in name]


def others(kind):
    """What does not fit the maps before it, and what is said of it."""
    return {
        "channels": (np.zeros((3, 7, 7), np.float32), r"a map of shape \(3, 7, 7\), expected 2"),
        "dtype": (MAPS[9].astype(np.float64), "dtype is float64, which float32, that of the maps"),
        "axes": (np.zeros((7, 7), np.float32), r"features have shape \(7, 7\), expected"),
        "empty": (np.zeros((2, 0, 7), np.float32), r"features are empty, shape \(2, 0, 7\)"),
    }[kind]


@pytest.mark.parametrize("kind", ["channels", "dtype", "axes", "empty"])
def test_what_does_not_fit_is_refused_when_it_comes_and_leaves_nothing(kind):
    values, words = others(kind)
    np.save("maps/9.npy", values)
    begun = []
    with pytest.raises(InputError, match=rf"maps/9.npy: {words}"):
        roicli.align("maps/{image}.npy", "rois.npy", "bad.h5", **OPTIONS, resume=True,
                     progress=lambda done, total, size: begun.append(done))  # fmt: skip
    assert begun
    assert not [name for name in os.listdir() if "bad" in name]
    if kind != "dtype":  # which a check, that computes nothing, takes
        with pytest.raises(InputError, match=rf"maps/9.npy: {words}"):
            roicli.check("maps/{image}.npy", ROIS, spatial_scale=1 / 4)


def test_a_narrower_dtype_fits_and_another_scale_does_not():
    np.save("maps/9.npy", MAPS[9].astype(np.float16))
    found = roicli.align("maps/{image}.npy", "rois.npy", **OPTIONS)
    rows = ROIS[:, 0] == 9
    alone = roicli.align(MAPS[9].astype(np.float16), ROIS[rows, 1:], **OPTIONS)
    np.testing.assert_array_equal(found.roi_features[rows], alone.roi_features)
    with h5py.File("m.h5", "a") as file:
        for number in range(IMAGES):
            file[f"{number}/p3"].attrs["stride"] = 8 if number == 9 else 4
    with pytest.raises(InputError, match=r"m.h5::9/p3: says 0.125, and m.h5::0/p3 says 0.25"):
        roicli.align("m.h5::{image}/p3", "rois.npy", "bad.h5", output_size=2)
    assert not Path("bad.h5").exists()


def test_an_interrupted_run_goes_on_and_knows_the_maps_that_it_does_not_read():
    def stop(done, total, size):
        if done >= 14:
            raise KeyboardInterrupt

    features = "maps/{image}.npy"
    roicli.align(features, "rois.npy", "whole.h5", **OPTIONS)
    with pytest.raises(KeyboardInterrupt):
        roicli.align(features, "rois.npy", "o.h5", **OPTIONS, resume=True, progress=stop)
    with logged() as lines:
        roicli.align(features, "rois.npy", "o.h5", **OPTIONS, resume=True)
    assert any("going on from" in line for line in lines)
    assert contents_of("o.h5") == contents_of("whole.h5")


def test_what_a_few_images_say_is_judged_on_all():
    """An error that a few show is told of all; one that only all show, at the end."""
    far = ROIS.copy()
    far[:, 1:] *= 50
    many = np.repeat(far, 4, axis=0)
    with pytest.raises(InputError, match=r"88 of 88 RoIs lie wholly outside"):
        roicli.align("maps/{image}.npy", many, "bad.h5", **OPTIONS)
    # RoIs on the images that are looked at before lie inside, the others, which are most, outside.
    first = np.isin(ROIS[:, 0], (1, 2, 11, 12))
    mixed = np.concatenate([np.repeat(ROIS[first], 4, axis=0), np.repeat(far[~first], 4, axis=0)])
    with pytest.raises(InputError, match=r"56 of 88 RoIs lie wholly outside"):
        roicli.align("maps/{image}.npy", mixed, "bad.h5", **OPTIONS)
    assert not [name for name in os.listdir() if "bad" in name]
    with logged() as lines:
        roicli.align("maps/{image}.npy", mixed[:40], **OPTIONS)
    assert sum("lie wholly outside" in line for line in lines) == 1


def test_memory_is_planned_again_for_a_larger_map(monkeypatch):
    np.save("maps/9.npy", np.zeros((2, 40, 60), np.float32))
    planned = []
    real = run.plan_memory

    def plan(budget, pyramid, *more):
        planned.append(pyramid.levels[0].shape[2:])
        return real(budget, pyramid, *more)

    monkeypatch.setattr(run, "plan_memory", plan)
    roicli.align("maps/{image}.npy", "rois.npy", **OPTIONS)
    assert planned[0] < (40, 60)
    assert planned[-1] == (40, 60)


def test_a_shard_and_a_pyramid_are_as_before():
    with h5py.File("p.h5", "w") as file:
        for number, values in enumerate(MAPS):
            for name, step in (("p2", 1), ("p3", 2)):
                data = file.create_dataset(f"{number}/{name}", data=values[:, ::step, ::step])
                data.attrs["spatial_scale"] = 0.25 / step
    options = {"levels": "p2,p3", "output_size": 2, "level_rule": "torchvision"}
    options |= {"canonical_size": 12, "canonical_level": 3}
    whole = roicli.align("p.h5::{image}", "rois.npy", "whole.h5", **options)
    assert set(whole.errors.column("level")) == {2, 3}
    for number in (1, 2):
        roicli.align("p.h5::{image}", "rois.npy", f"{number}.h5", **options, shard=f"{number}/2")
    roicli.merge(["1.h5", "2.h5"], "v.h5")
    assert contents_of("v.h5") == contents_of("whole.h5")


@pytest.mark.parametrize("options", [{}, {"compression": "lzf"}])
def test_maps_in_other_files_are_read_where_that_is_allowed(options):
    with h5py.File("other.h5", "w") as other, h5py.File("links.h5", "w") as file:
        for number, values in enumerate(MAPS):
            other.create_dataset(str(number), data=values, **options)
            file[f"{number}/p3"] = h5py.ExternalLink("other.h5", f"/{number}")
    features = "links.h5::{image}/p3"
    found = roicli.align(features, "rois.npy", **OPTIONS, allow_external=True).roi_features
    expected = roicli.align("m.h5::{image}/p3", "rois.npy", **OPTIONS).roi_features
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(InputError, match="outside the file; add --allow-external"):
        roicli.align(features, "rois.npy", **OPTIONS)
