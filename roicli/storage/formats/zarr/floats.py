"""Floats of Zarr stores that NumPy has not: opened as their bits, by name."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

import numpy as np

from roicli.storage.array import as_stored, narrow_float

# Floats of Zarr 3 that zarr-python has not and others write. Source: zarr-extensions, data-types.
NARROW_FLOATS = (
    "bfloat16", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fnuz",
    "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
)  # fmt: skip


@cache
def register_narrow_floats() -> None:
    """Let zarr open arrays of floats that NumPy has not, as their bits, where it knows them not."""
    from zarr.dtype import data_type_registry

    for name in NARROW_FLOATS:
        if name not in data_type_registry.contents:
            data_type_registry.register(name, _bits_of(name))


def _bits_of(name: str) -> Any:
    from zarr import dtype as zarr_dtype
    from zarr import errors

    # Newer releases, 3.4 for one, warn where it is asked for at its old place.
    at_home = hasattr(errors, "DataTypeValidationError")
    not_this_type: type[Exception] = (errors if at_home else zarr_dtype).DataTypeValidationError
    wide = narrow_float(name).itemsize == 2
    base: Any = zarr_dtype.UInt16 if wide else zarr_dtype.UInt8

    class Bits(base):  # type: ignore[misc]
        """The bits of such floats; no NumPy dtype is written as this."""

        _zarr_v3_name: ClassVar[Any] = name
        _zarr_v2_names: ClassVar[Any] = ()

        @classmethod
        def from_native_dtype(cls, dtype: Any) -> Any:
            raise not_this_type(f"{dtype} is not stored as {name}")

        @classmethod
        def _from_json_v2(cls, data: Any) -> Any:
            raise not_this_type(f"Zarr 2 has no {name}: {data}")

        @classmethod
        def _from_json_v3(cls, data: Any) -> Any:
            if data == name:
                return cls()
            raise not_this_type(f"{data} is not {name}")

        def from_json_scalar(self, data: Any, *, zarr_format: Any) -> Any:
            # The fill value is never read: a chunk that is not stored is an error.
            return self.default_scalar()

    return Bits


def stored_dtype(array: Any) -> np.dtype[Any]:
    """The dtype that a zarr.Array means: by name, or as opaque bytes, as ml_dtypes saves."""
    named = getattr(getattr(array.metadata, "data_type", None), "_zarr_v3_name", None)
    return narrow_float(named) if named in NARROW_FLOATS else as_stored(array.dtype)
