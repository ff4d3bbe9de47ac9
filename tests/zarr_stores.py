"""Zarr stores for the tests: made by zarr itself, opened by roicli."""

from pathlib import Path

import numpy as np
import pytest

zarr = pytest.importorskip("zarr", reason="the extra roicli[zarr] is not installed")
fsspec = pytest.importorskip("fsspec", reason="the extra roicli[zarr] is not installed")

from roicli.core.exceptions import InputError  # noqa: E402
from roicli.storage.address import parse_address  # noqa: E402
from roicli.storage.open import open_array  # noqa: E402
from roicli.storage.result import ResultFile, open_result  # noqa: E402

PROJECT = Path(__file__).parents[1]
MAPS = np.random.default_rng(0).normal(size=(5, 3, 8, 6)).astype(np.float32)


def store(path, values=MAPS, name="p3", chunks=None, attributes=None, **options):
    group = zarr.open_group(str(path), mode="a", zarr_format=options.get("zarr_format", 3))
    options.pop("zarr_format", None)
    array = group.create_array(
        name, shape=values.shape, dtype=values.dtype, chunks=chunks or (1, *values.shape[1:]),
        attributes=attributes or {}, **options,
    )  # fmt: skip
    array[...] = values
    return f"{path}::{name}"


def opened(address, role="features"):
    return open_array(parse_address(str(address)), role)


def refused(address, role="features"):
    with pytest.raises(InputError) as caught:
        opened(address, role).read_all()
    return str(caught.value)


def write(path, values, compression="none", order=None, block=3, force=False, **beside):
    order = np.arange(len(values)) if order is None else order
    with open_result(ResultFile(str(path), values.shape, values.dtype, compression, force)) as made:
        for start in range(0, len(order), block):
            rows = order[start : start + block]
            made.write_rows(rows, values[rows])
        made.finish(beside.get("tables", {}), beside.get("attributes", {}))
