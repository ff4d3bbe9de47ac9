"""Maps whose numbers are packed: unpacked as their files say, or refused where nobody says."""

from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest

import roicli
from roicli.core.exceptions import InputError
from tests.cli.running import refuse, run, succeed
from tests.log import logged

DATA = Path(__file__).parent / "field"
FEATS, ROIS, BASE = (np.load(DATA / f"{name}.npy") for name in ("feats", "rois", "base"))
STRIDE_16 = {"spatial_scale": 1 / 16}
PACKED = np.round((FEATS - 1.5) / 0.002).astype(np.int16)
CF = {"scale_factor": 0.002, "add_offset": 1.5}


@pytest.fixture(autouse=True)
def _in_a_folder(folder: Path) -> None:
    """Every test writes where it stands."""


def write(values: Any, **attributes: Any) -> str:
    """m.h5 with one dataset."""
    with h5py.File("m.h5", "w") as file:
        file["feats"] = values
        file["feats"].attrs.update(attributes)
    return "m.h5"


def values_of(features: str, **options: Any) -> Any:
    return roicli.align(features, ROIS, **{**STRIDE_16, **options}).roi_features


def test_cf_packing_is_undone_and_said() -> None:
    write(PACKED, **CF, _FillValue=np.int16(-32768))
    np.save("rois.npy", ROIS)
    outcome = succeed("align", "m.h5", "rois.npy", "--spatial-scale", "1/16", "-o", "o.h5")
    assert outcome.err.count("read as number * 0.002 + 1.5, -32768 as NaN") == 1
    with h5py.File("o.h5") as file:
        assert file["roi_features"].dtype == np.float32
        np.testing.assert_allclose(file["roi_features"][:], BASE, atol=0.001)
        assert file.attrs["features_decoding"] == "number * 0.002 + 1.5, -32768 as NaN"
        assert file.attrs["features_dtype"] == "int16"
    stored = values_of("m.h5", decode=False)
    np.testing.assert_allclose(stored * 0.002 + 1.5, BASE, atol=0.002)


def test_cf_packing_in_zarr_and_as_unsigned_bytes() -> None:
    zarr = pytest.importorskip("zarr")
    zarr.create_array("m.zarr", data=PACKED).attrs.update(CF)
    np.testing.assert_allclose(values_of("m.zarr"), BASE, atol=0.001)
    low, step = FEATS.min(), (FEATS.max() - FEATS.min()) / 255
    bytes_ = np.round((FEATS - low) / step).astype(np.uint8).view(np.int8)
    write(bytes_, scale_factor=step, add_offset=low, _Unsigned="true")
    np.testing.assert_allclose(values_of("m.h5"), BASE, atol=step)


@pytest.mark.parametrize("name", ["_FillValue", "missing_value"])
@pytest.mark.parametrize("fill", [np.float32(1e20), np.float32(-999)])
def test_values_that_stand_for_none_are_nan(name: str, fill: Any) -> None:
    holes = FEATS.copy()
    holes[0, 2, 5:9, 6:20] = fill
    expected = np.where(holes == fill, np.nan, holes)
    found = values_of(write(holes, **{name: fill}))
    np.testing.assert_array_equal(found, roicli.align(expected, ROIS, **STRIDE_16).roi_features)
    assert np.isnan(found).any()
    # One that the dtype has not is nowhere.
    assert not np.isnan(values_of(write(PACKED, **CF, **{name: 1e20}))).any()


def test_values_that_stand_for_none_as_xarray_and_netcdf_write_them() -> None:
    """Several of them; in base64 in Zarr 3, and beside the attributes in Zarr 2."""
    zarr = pytest.importorskip("zarr")
    holes = FEATS.copy()
    holes[0, 2, 5:9, 6:20] = -999
    expected = values_of(write(holes, _FillValue=-999))
    assert np.isnan(expected).any()
    several = write(holes, missing_value=np.float32([-999, 1e20]))
    np.testing.assert_array_equal(values_of(several), expected)
    zarr.create_array("3.zarr", data=holes).attrs["_FillValue"] = "AAAAAAA4j8A="
    np.testing.assert_array_equal(values_of("3.zarr"), expected)
    two = zarr.create_array("2.zarr", data=holes, zarr_format=2, fill_value=-999)
    assert not np.isnan(values_of("2.zarr")).any()
    two.attrs["_ARRAY_DIMENSIONS"] = ["n", "c", "y", "x"]
    np.testing.assert_array_equal(values_of("2.zarr"), expected)


@pytest.mark.parametrize("factor", [0.0, np.nan])
def test_a_factor_that_leaves_no_numbers_is_refused(factor: float) -> None:
    with pytest.raises(InputError, match=r"scale_factor and add_offset are .*expected finite"):
        values_of(write(PACKED, scale_factor=factor))


def test_quantized_integers() -> None:
    """One scale for all, or one for each channel, whatever the layout."""
    whole = np.round(FEATS / 0.05).astype(np.int32) + 3
    found = values_of(write(whole.astype(np.int16), scale=0.05, zero_point=3))
    np.testing.assert_allclose(found, BASE, atol=0.03)
    scales = np.linspace(0.02, 0.09, 8)
    each = np.round(FEATS / scales[:, None, None]).astype(np.int16)
    found = values_of(write(each, scale=scales, zero_point=np.zeros(8, int)))
    np.testing.assert_allclose(found, BASE, atol=0.05)
    last = write(each.transpose(0, 2, 3, 1), scale=scales, zero_point=0)
    np.testing.assert_array_equal(values_of(last, layout="nhwc"), found)
    with pytest.raises(InputError, match="attribute scale alone, expected scale and zero_point"):
        values_of(write(each, scale=0.05))
    np.testing.assert_array_equal(
        values_of(write(each, q_scale=scales, q_zero_point=0)),
        values_of(write(each, scale=scales, zero_point=0)),
    )
    values_of(write(FEATS, scale=0.05))  # of floats it may be anything
    with pytest.raises(InputError, match=r"attribute scale_factor is 'x', expected a number.*no-d"):
        values_of(write(each, scale_factor="x"))


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
@pytest.mark.parametrize("dtype", ["<u2", "<i2", ">u2"])
def test_floats_of_16_bits_kept_as_integers(name: str, dtype: str) -> None:
    """Their bits are told from integers that count something; who knows says which they are."""
    maps = FEATS.copy()
    maps[0, 0, 0, 0] = 1e-7  # next to 0 a float may be anything
    np.save("rois.npy", ROIS)
    for values in (maps, np.maximum(maps, 0), maps * 0.01):
        bits = values.astype(name).view(np.uint16)
        write(bits.astype(dtype) if dtype[0] == ">" else bits.view(dtype))
        kept = np.dtype(dtype).name
        words = ("look like the bits of", name, f"--stored-as {name}", f"--stored-as {kept}")
        refuse("align", "m.h5", "rois.npy", "--spatial-scale", "1/16", words=words)
    found = values_of("m.h5", stored_as=name)
    np.testing.assert_allclose(found, BASE * 0.01, rtol=2**-7, atol=0.0002)


def test_integers_that_are_no_floats() -> None:
    bits = FEATS.astype(ml_dtypes.bfloat16).view(np.uint16)
    write(bits)
    assert values_of("m.h5", stored_as="uint16").max() > 10_000
    assert values_of("m.h5", decode=False).max() > 10_000
    with pytest.raises(InputError, match="dtype is uint16, and --stored-as int16 is of int16"):
        values_of("m.h5", stored_as="int16")
    counts = np.abs(FEATS * 1000).astype(np.uint16)
    centred = np.round(FEATS * 3000).astype(np.int16)
    of_14_bits = np.random.default_rng(0).integers(0, 1 << 14, FEATS.shape, np.uint16)
    many = (counts, np.zeros_like(counts), counts * 8, np.full_like(counts, 7), of_14_bits)
    for whole in (*many, centred, centred.view(np.uint16) + np.uint16(1 << 15)):
        values_of(write(whole))
    with pytest.raises(InputError, match="dtype is float32, and --stored-as bfloat16 is of integ"):
        values_of(write(FEATS), stored_as="bfloat16")


def test_a_collection_says_once_how_it_is_unpacked() -> None:
    with h5py.File("m.h5", "w") as file:
        for number in range(2):
            file[f"{number}"] = PACKED[number]
            file[f"{number}"].attrs.update(CF)
    with logged() as lines:
        np.testing.assert_allclose(values_of("m.h5::{image}"), BASE, atol=0.001)
    assert sum("read as number * 0.002 + 1.5" in line for line in lines) == 1
    assert run("check", "m.h5::{image}", "rois.npy").code == 2
