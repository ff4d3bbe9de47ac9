"""The data type ``bfloat16`` of Zarr 3, which zarr-python does not have and TensorStore writes.

It is read as its bits, uint16; ``widen_bfloat16`` makes numbers of them. Source: zarr-extensions,
data-types/bfloat16.
"""

from __future__ import annotations

from typing import Any, ClassVar

from roicli.storage.stored_array import BFLOAT16_NAME


def register_bfloat16() -> None:
    """Let zarr open arrays of bfloat16, where it does not know them by itself."""
    from zarr.dtype import DataTypeValidationError, UInt16, data_type_registry

    if BFLOAT16_NAME in data_type_registry.contents:
        return

    class BFloat16Bits(UInt16):
        """The bits of bfloat16 numbers; no NumPy dtype is written as this."""

        _zarr_v3_name: ClassVar[Any] = BFLOAT16_NAME
        _zarr_v2_names: ClassVar[Any] = ()

        @classmethod
        def from_native_dtype(cls, dtype: Any) -> Any:
            raise DataTypeValidationError(f"{dtype} is not stored as {BFLOAT16_NAME}")

        @classmethod
        def _from_json_v2(cls, data: Any) -> Any:
            raise DataTypeValidationError(f"Zarr 2 has no {BFLOAT16_NAME}: {data}")

        @classmethod
        def _from_json_v3(cls, data: Any) -> Any:
            if data == BFLOAT16_NAME:
                return cls()
            raise DataTypeValidationError(f"{data} is not {BFLOAT16_NAME}")

        def from_json_scalar(self, data: Any, *, zarr_format: Any) -> Any:
            # The fill value is never read: a chunk that is not stored is an error.
            return self.default_scalar()

    data_type_registry.register(BFLOAT16_NAME, BFloat16Bits)


def is_bfloat16(array: Any) -> bool:
    """Whether a zarr.Array holds bfloat16: by name, or as two opaque bytes, as ml_dtypes saves."""
    named = getattr(array.metadata, "data_type", None)
    return getattr(named, "_zarr_v3_name", None) == BFLOAT16_NAME or array.dtype == "V2"
