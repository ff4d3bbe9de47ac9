"""What ``import roicli`` offers: every command as one call. Arrays or addresses in, records out."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, Unpack, cast

import numpy as np

from roicli.core.call_options import ErrorsOptions, ExportOptions
from roicli.core.declaration import check_known, declarations, settle
from roicli.core.exceptions import ParameterError
from roicli.core.operator_table import (
    OPERATORS,
    AlignOptions,
    AveragePoolOptions,
    CropAndResizeOptions,
    DeformPoolOptions,
    Operator,
    PoolOptions,
    PrecisePoolOptions,
    PsAlignOptions,
    PsPoolOptions,
    RotatedAlignOptions,
    call_name,
)
from roicli.operators.interface import OperatorSpec
from roicli.pipeline import provenance
from roicli.pipeline.execute import Result, check_outputs, run_and_write, write_errors
from roicli.pipeline.features import FeatureArgument, resolve_addresses
from roicli.pipeline.inputs import open_inputs
from roicli.pipeline.request import ErrorsRequest, ExportRequest, RunRequest
from roicli.pipeline.run import (
    announce_turned,
    build_error_table,
    build_value_measurers,
    check_asked,
    open_run,
    resolve_operator,
)
from roicli.pipeline.settings import resolve_setting, turned_by_preset
from roicli.pipeline.stream import run_operator
from roicli.storage.address import as_local_path
from roicli.storage.atomic import check_output, replace_atomically
from roicli.storage.exchange import TAKEN
from roicli.storage.open import inputs_unchanged
from roicli.storage.result import (
    NoWriter,
)

if TYPE_CHECKING:
    from roicli.pipeline.capture.sites import RoiSite

logger = logging.getLogger("roicli")
# What ``import roicli`` takes from this file.
__all__ = [
    "align", "average_pool", "crop_and_resize", "deform_pool", "errors", "export", "pool",
    "precise_pool", "ps_align", "ps_pool", "rotated_align",
]  # fmt: skip


def default_output(features: FeatureArgument, operator: Operator) -> str:
    """``<features>.<operator>.h5``, after the first file's name."""
    return f"{resolve_addresses(str(features), ())[0].stem}.{operator}.h5"


def align(
    features: FeatureArgument,
    rois: FeatureArgument,
    output: str | os.PathLike[str] | None = None,
    **options: Unpack[AlignOptions],
) -> Result:
    """RoI Align of stored or in-memory maps (N, C, H, W) at RoIs (K, 5), and its error table.

    ``features`` and ``rois`` are addresses (``file.npy``, ``file.h5::/dataset``) or arrays; RoIs
    are ``batch_index, x1, y1, x2, y2`` in image pixels. ``output`` is a ``.h5`` or ``.npy`` file
    or a ``.zarr`` folder or URL; None keeps the features (K, C, P_h, P_w) in
    ``Result.roi_features``, float32 (float64 for float64 maps). Raises RoicliError. Source: He et
    al. 2017, section 3; ONNX RoiAlign-16.
    """
    return run("align", features, rois, output, options)


def pool(
    features: FeatureArgument,
    rois: FeatureArgument,
    output: str | os.PathLike[str] | None = None,
    **options: Unpack[PoolOptions],
) -> Result:
    """RoI Pool of stored or in-memory maps (N, C, H, W) at RoIs (K, 5), and its error table.

    Arguments and result as ``align``; ``quantization`` and ``partition`` choose the rounding.
    Raises RoicliError. Source: Girshick 2015, section 2.1; ONNX MaxRoiPool-1.
    """
    return run("pool", features, rois, output, options)


def precise_pool(
    features: FeatureArgument,
    rois: FeatureArgument,
    output: str | os.PathLike[str] | None = None,
    **options: Unpack[PrecisePoolOptions],
) -> Result:
    """Precise RoI Pooling of stored or in-memory maps (N, C, H, W) at RoIs (K, 5).

    The exact mean of the interpolated map over each bin. Arguments and result as ``align``;
    ``border`` "clamp" continues the map by its edge cells, "zero" by zeros. The error table is RoI
    Pool's. Raises RoicliError. Source: Jiang et al. 2018 (IoU-Net), section 3.2.
    """
    return run("precise-pool", features, rois, output, options)


def crop_and_resize(
    features: FeatureArgument,
    rois: FeatureArgument,
    output: str | os.PathLike[str] | None = None,
    **options: Unpack[CropAndResizeOptions],
) -> Result:
    """Crop and resize of stored or in-memory maps (N, C, H, W) at RoIs (K, 5), to P x P points.

    Arguments and result as ``align``; ``normalization`` says how corners became shares of the map,
    for an image of ``image_size``. The error table is RoI Pool's. Raises RoicliError. Source:
    tensorflow/core/kernels/image/crop_and_resize_op.cc.
    """
    return run("crop-and-resize", features, rois, output, options)


def average_pool(
    features: FeatureArgument,
    rois: FeatureArgument,
    output: str | os.PathLike[str] | None = None,
    **options: Unpack[AveragePoolOptions],
) -> Result:
    """Average RoI Pool of stored or in-memory maps (N, C, H, W) at RoIs (K, 5).

    The mean of the cells of RoI Pool's bins. Arguments and result as ``pool``. Raises RoicliError.
    Source: Girshick 2015, section 2.1, for the bins; Chainer, roi_average_pooling_2d.
    """
    return run("average-pool", features, rois, output, options)


def ps_pool(
    features: FeatureArgument,
    rois: FeatureArgument,
    output: str | os.PathLike[str] | None = None,
    **options: Unpack[PsPoolOptions],
) -> Result:
    """Position-sensitive RoI Pool of stored or in-memory maps (N, C, H, W) at RoIs (K, 5).

    Arguments as ``align``; the result is (K, C / g^2, P_h, P_w) for ``group_size`` g. The error
    table is RoI Pool's. Raises RoicliError. Source: Dai et al. 2016 (R-FCN), section 2.2.
    """
    return run("ps-pool", features, rois, output, options)


def ps_align(
    features: FeatureArgument,
    rois: FeatureArgument,
    output: str | os.PathLike[str] | None = None,
    **options: Unpack[PsAlignOptions],
) -> Result:
    """Position-sensitive RoI Align of stored or in-memory maps (N, C, H, W) at RoIs (K, 5).

    Arguments as ``align``; the result is (K, C / g^2, P_h, P_w) for ``group_size`` g. The error
    table is RoI Pool's. Raises RoicliError. Source: torchvision.ops.ps_roi_align.
    """
    return run("ps-align", features, rois, output, options)


def rotated_align(
    features: FeatureArgument,
    rois: FeatureArgument,
    output: str | os.PathLike[str] | None = None,
    **options: Unpack[RotatedAlignOptions],
) -> Result:
    """Rotated RoI Align of stored or in-memory maps (N, C, H, W) at turned RoIs (K, 6).

    RoIs are ``batch_index, cx, cy, w, h, angle``, lengths in image pixels; ``angle_unit`` and
    ``angle_direction`` say what the angle is. Other arguments and the result as ``align``. The
    error table is that of RoI Pool on the upright boxes that enclose them. Raises RoicliError.
    Source: detectron2 ROIAlignRotated; mmcv.ops.RoIAlignRotated.
    """
    return run("rotated-align", features, rois, output, options)


def deform_pool(
    features: FeatureArgument,
    rois: FeatureArgument,
    output: str | os.PathLike[str] | None = None,
    **options: Unpack[DeformPoolOptions],
) -> Result:
    """Deformable RoI Pool of stored or in-memory maps (N, C, H, W) at RoIs (K, 5).

    ``offsets`` (K, 2, P_h, P_w), an address or an array, move each bin right and down, in shares of
    the RoI's extent times ``gamma``. Other arguments and the result as ``align``, with C / g^2
    channels under ``deform_rule`` "r-fcn". The error table is RoI Pool's. Raises RoicliError.
    Source: Dai et al. 2017 (Deformable Convolutional Networks), section 2.2; mmcv deform_roi_pool.
    """
    return run("deform-pool", features, rois, output, options)


def run(
    operator: Operator,
    features: FeatureArgument,
    rois: FeatureArgument,
    output: str | os.PathLike[str] | None,
    options: Mapping[str, Any],
) -> Result:
    """Run one operator, given by its name and the keywords of its call."""
    check_known(call_name(operator), options, OPERATORS[operator].options)
    operator, options = follow_preset(operator, options)
    return run_request(operator, features, rois, output, settle(RunRequest, options))


def follow_preset(
    operator: Operator, options: Mapping[str, Any]
) -> tuple[Operator, Mapping[str, Any]]:
    """The operator that the preset is a function of, and those options that this operator has.

    Where that is another operator than the one called, the log says so. Raises ParameterError for
    an option that it does not have.
    """
    preset = options.get("preset")
    if preset is None:
        return operator, options
    from roicli.operators.presets import operator_of

    running = cast("Operator", operator_of(preset, operator))
    if running == operator:
        return operator, options
    usual, known = (declarations(OPERATORS[one].options) for one in (operator, running))
    for name, value in options.items():
        if name not in known and value != usual[name].starting_value:
            raise ParameterError(
                f"preset {preset} runs {running}, which has no option {name.replace('_', ' ')}",
                f"see roicli {running} --help",
            )
    logger.info(f"preset {preset} is a function of {running}: that runs, and not {operator}")
    return running, {name: value for name, value in options.items() if name in known}


def run_request(
    operator: Operator,
    features: FeatureArgument,
    rois: FeatureArgument,
    output: str | os.PathLike[str] | None,
    request: RunRequest,
) -> Result:
    """Run one operator over all RoIs, here or on a cluster, or over the block that is ``shard``."""
    if request.dask is not None:
        return _run_on_cluster(operator, features, rois, output, request)
    opened = open_run(operator, features, rois, request, streams=request.shard is None)
    spec = opened.setting.spec
    if request.shard is None:
        return run_and_write(opened, spec, _as_text(output), request)
    from roicli.pipeline.shards import run_shard

    return run_shard(opened, spec, _as_text(output), request)


def _run_on_cluster(
    operator: str,
    features: FeatureArgument,
    rois: FeatureArgument,
    output: str | os.PathLike[str] | None,
    request: RunRequest,
) -> Result:
    """Run the blocks of the RoIs on a cluster."""
    from roicli.pipeline.cluster.run import run_on_cluster

    return run_on_cluster(operator, features, rois, _as_text(output), request)


def errors(
    features: FeatureArgument | None = None,
    rois: FeatureArgument | None = None,
    **options: Unpack[ErrorsOptions],
) -> Result:
    """The quantization error of RoIs (K, 5), and with ``features`` the value errors and shares.

    ``errors(rois)`` gives the geometry alone, at ``spatial_scale``; ``map_size`` (height, width) in
    cells then gives ``clipped_fraction``. ``errors(features, rois)`` runs both operators. Raises
    RoicliError. Source: docs/semantics.md, section 5.
    """
    check_known("errors", options, ErrorsOptions)
    request = settle(ErrorsRequest, options)
    if rois is None:
        features, rois = None, features
    if rois is None:
        raise ParameterError("there are no RoIs: errors(rois) or errors(features, rois)", TAKEN)
    if features is None:
        return _geometric_errors(rois, request)
    if request.map_size is not None:
        raise ParameterError("map size is the features' own where there are features")
    if request.dask is not None:
        return _run_on_cluster("errors", features, rois, None, request)
    with inputs_unchanged(), closing(open_run("errors", features, rois, request)) as run:
        check_outputs(run.inputs, None, request)
        measurers = build_value_measurers(run)
        # The features themselves are not asked for: the operators run to measure values.
        run_operator(
            run.pyramid, run.inputs.rois, run.inputs.map_of_roi, None, run.engine, NoWriter(),
            measurers, request.progress,
        )  # fmt: skip
        parameters = provenance.describe_run(run, None, run.pyramid.compute_dtype)
    table = run.error_table()
    write_errors(table, parameters, request)
    return Result("errors", table, parameters)


def _geometric_errors(rois: FeatureArgument, request: ErrorsRequest) -> Result:
    """The error table of boxes alone."""
    if request.dask is not None:
        raise ParameterError("--dask shares the maps among workers, and there are no features")
    unit = turned_by_preset(request)
    setting = resolve_setting(request, "pool" if unit is None else "errors")
    reading = request if unit is None else request.turned_in(unit)
    with inputs_unchanged():
        inputs = open_inputs(None, rois, reading, request.map_size)
        announce_turned(inputs)
        check_outputs(inputs, None, request)
        table = build_error_table(inputs, setting, group_by=request.group_by)
        check_asked(table, request)
    parameters = provenance.describe_geometry(inputs, setting)
    write_errors(table, parameters, request)
    return Result("errors", table, parameters)


def export(
    operator: Operator, output: str | os.PathLike[str], **options: Unpack[ExportOptions]
) -> dict[str, Any]:
    """Write the graph of an operator: ``features`` (N, C, H, W), ``rois`` (K, 5) in image pixels.

    The graph runs with ONNX Runtime alone and gives ``roi_features`` (K, C, P_h, P_w), the same
    bits as ``align`` and ``pool``; parameters are its metadata. Returns them. Raises RoicliError,
    also for a rule whose index arithmetic does not fit in a graph.
    """
    check_known("export", options, ExportOptions)
    import onnx

    from roicli.operators.export import build_export_graph

    request, path = settle(ExportRequest, options), os.fspath(output)
    if request.offsets is not None:
        raise ParameterError("offsets are an input of the graph, beside RoIs", "drop --offsets")
    if request.into is not None:
        return _export_into(operator, path, request, options)
    if request.input is not None:
        raise ParameterError("--input is what a model is run on, and --into names none")
    graph_file = (request.graph or "").partition("::")[0]
    check_output(path, [graph_file] if graph_file else [], request.force, (".onnx",))
    spec = resolve_operator(operator, request, request.spatial_scale)
    dtype = np.dtype(request.dtype)
    parameters = provenance.describe_export(operator, spec, dtype, request.opset)
    metadata = {key: str(value) for key, value in parameters.items()}
    graph = build_export_graph(spec, dtype, metadata, request.opset)
    onnx.checker.check_model(onnx.load_from_string(graph.model), full_check=True)
    with (
        replace_atomically(path, request.force) as temporary,
        open(temporary, "wb") as stream,
    ):
        stream.write(graph.model)
    return parameters


def _export_into(
    operator: Operator, path: str, request: ExportRequest, options: Mapping[str, Any]
) -> dict[str, Any]:
    """A model whose RoI nodes follow another rule, checked by running both."""
    from roicli.pipeline.capture.replace import replace_in_model

    for name in ("output_size", "spatial_scale", "graph", "opset"):
        if options.get(name) not in (None, declarations(ExportOptions)[name].starting_value):
            raise ParameterError(
                f"{name.replace('_', ' ')} is each node's own with --into", "drop the option"
            )
    known = declarations(ExportOptions)
    said = {name: value for name, value in options.items() if value != known[name].starting_value}

    def spec_of(site: RoiSite) -> OperatorSpec:
        """What was said over what the node is set to, where that is the same operator's."""
        own = site.options if site.operator == operator and request.preset is None else {}
        size = site.size_in(request.into)
        given = {**own, **said, "output_size": size, "spatial_scale": site.spatial_scale}
        asked = settle(ExportRequest, given)
        return resolve_operator(operator, asked, asked.spatial_scale)

    return replace_in_model(request, path, spec_of)


def _as_text(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else as_local_path(os.fspath(path))
