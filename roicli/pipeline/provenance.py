"""Where a result comes from: versions, parameters and inputs, for HDF5 attributes and JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from roicli.core.exceptions import ParameterError
from roicli.core.foreign import stored_text
from roicli.core.version import __version__
from roicli.core.vocabulary import Provider
from roicli.operators.interface import OperatorSpec
from roicli.operators.onnx_protobuf import OPSET
from roicli.pipeline.decode import decoding_of
from roicli.pipeline.features import FeaturePyramid
from roicli.pipeline.inputs import Inputs
from roicli.pipeline.layout import layout_of
from roicli.pipeline.run import Run
from roicli.pipeline.settings import Setting
from roicli.storage.address import split_name


def utc_now() -> str:
    """The time as ISO 8601; SOURCE_DATE_EPOCH (reproducible-builds.org) sets it."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    except (ValueError, OverflowError, OSError):
        raise ParameterError(
            f"SOURCE_DATE_EPOCH is {epoch!r}, expected seconds since 1970"
        ) from None
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _describe_rois(inputs: Inputs) -> dict[str, Any]:
    name, dataset = split_name(inputs.rois_name)
    return {
        "rois_name": name,
        "rois_dataset": dataset,
        "rois_shape": list(inputs.rois_shape),
        "rois_dtype": inputs.rois_stored_as,
    }


def describe_geometry(inputs: Inputs, setting: Setting) -> dict[str, Any]:
    """The parameters of an error table without features."""
    return {
        "operator": "errors",
        "roicli_version": __version__,
        **setting.pool.describe(),
        "spatial_scale": [place.spatial_scale for place in inputs.places],
        "pixel_model": setting.pixel_model,
        "preset": setting.preset,
        **_describe_rois(inputs),
        **inputs.described,
        "created_utc": utc_now(),
    }


def describe_run(
    run: Run, spec: OperatorSpec | None, dtype: np.dtype[Any], shape: tuple[int, ...] = ()
) -> dict[str, Any]:
    """The parameters of a run; ``spec`` None where the values were only measured."""
    parameters = describe_geometry(run.inputs, run.setting)
    parameters |= (run.setting.align if spec is None else spec).describe()
    return parameters | {
        "operator": run.operator,
        "onnxruntime_version": _onnxruntime_version(run.engine.provider),
        "opset": OPSET,
        "provider_requested": run.asked_provider,
        "provider_used": run.engine.provider,
        **({"device_id": run.engine.device.index} if run.engine.provider == "cuda" else {}),
        "dtype": dtype.name,
        **({"result_shape": list(shape)} if shape else {}),
        **describe_maps(run.pyramid),
    }


def describe_maps(pyramid: FeaturePyramid) -> dict[str, Any]:
    """The parameters that are the maps' own, as far as they were looked at."""
    levels = pyramid.levels
    names = [split_name(level.stored.name) for level in levels]
    return {
        "features_name": [name for name, _ in names],
        "features_dataset": [dataset for _, dataset in names],
        "features_shape": [list(level.stored.shape) for level in levels],
        "features_layout": [layout_of(level.stored) for level in levels],
        "features_decoding": [decoding_of(level.stored) or "none" for level in levels],
        "features_dtype": [level.stored.precision.name for level in levels],
    }


def _onnxruntime_version(provider: Provider) -> str | None:
    """The version that computes; None where the compiled kernels do, which do not wait for it."""
    if provider == "native":
        return None
    from roicli.runtime.onnx_runtime import ort

    return str(ort.__version__)


def describe_export(
    operator: str, spec: OperatorSpec, dtype: np.dtype[Any], opset: int
) -> dict[str, Any]:
    """The metadata of an exported graph, with its inputs in words."""
    columns = ("batch_index", *spec.roi_columns)
    return {
        "roicli_version": __version__,
        "operator": operator,
        "spatial_scale": spec.spatial_scale,
        **spec.describe(),
        "opset": opset,
        "dtype": dtype.name,
        "input_features": "(N, C, H, W) feature maps",
        "input_rois": f"(K, {len(columns)}): {', '.join(columns)} in image pixels",
        "output_roi_features": "(K, C, P_h, P_w)",
    }


def flatten(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as HDF5 attributes: numbers, words and flat lists; the rest as JSON."""
    flat: dict[str, Any] = {}
    for key, value in parameters.items():
        if value is None:
            flat[key] = "none"
        elif isinstance(value, list) and len(value) == 1 and not key.endswith("_size"):
            flat[key] = value[0]
        elif isinstance(value, list) and any(isinstance(part, list) for part in value):
            flat[key] = json.dumps(value)
        else:
            flat[key] = value
    return {key: _stored(value) for key, value in flat.items()}


def _stored(value: Any) -> Any:
    """A name as a file can hold it."""
    if isinstance(value, list):
        return [_stored(part) for part in value]
    return stored_text(value) if isinstance(value, str) else value
