"""``capture``: a model and its inputs to a file of what its RoI nodes read and gave."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Unpack

from roicli.core.declaration import check_known, record, settle
from roicli.core.exceptions import InputError, ParameterError
from roicli.core.model_options import CaptureOptions, ModelRunOptions
from roicli.core.progress import Progress
from roicli.core.record import frozen
from roicli.core.shown import Shown
from roicli.core.system import available_bytes, usable_cores
from roicli.core.version import __version__
from roicli.core.vocabulary import PhotoLayout, PhotoPreset, Provider
from roicli.pipeline.capture.feeds import RunInputs, open_run_inputs
from roicli.pipeline.capture.photos import Preparation, settle_preparation
from roicli.pipeline.capture.plan import CapturePlan, ModelPlan, plan_capture
from roicli.pipeline.capture.store import CaptureTree, StoredHead, count_images, log_arrays
from roicli.pipeline.provenance import utc_now
from roicli.runtime.devices import Device
from roicli.runtime.model_run import Limits, Model, run_model, value_bytes
from roicli.storage.atomic import PartFile, as_output_errors, check_output, check_room
from roicli.storage.file_state import FileState, read_state
from roicli.storage.open import inputs_unchanged, watch
from roicli.storage.result import HDF5_OVERHEAD
from roicli.storage.tensor_log import TensorLog

logger = logging.getLogger("roicli")

ENDINGS = (".h5", ".hdf5")
# Maps are padded to a whole number of cells, of 64 pixels at most.
PADDING_PX = 64


@record(ModelRunOptions)
class ModelRunRequest:
    """How a user's model is run."""

    image: list[str] | None
    input: Any
    photo_preset: PhotoPreset | None
    resize: str | None
    photo_layout: PhotoLayout
    provider: Provider
    device_id: int
    threads: int | None
    max_memory: int | None
    max_seconds: float
    allow_external: bool

    def __post_init__(self) -> None:
        if not (math.isfinite(self.max_seconds) and self.max_seconds > 0):
            raise ParameterError(f"max seconds is {self.max_seconds}, expected a positive number")

    @property
    def preparation(self) -> Preparation:
        """What is done to photos. Raises ParameterError."""
        return settle_preparation(vars(self))

    @property
    def limits(self) -> Limits:
        """What the model may take."""
        return Limits(self.max_memory or available_bytes(), self.max_seconds)


@record(CaptureOptions)
class CaptureRequest(ModelRunRequest):
    """What was asked of ``capture``."""

    outputs: tuple[str, ...] | None
    force: bool
    resume: bool
    progress: Progress


@frozen
class Capture(Shown):
    """What was captured: ``output``, the HDF5 file, of ``images`` images.

    ``heads`` are its groups, ``outputs`` the tensors that were named, ``skipped`` the nodes that
    are not captured, each with its reason, ``parameters`` what the model was run on and with.
    """

    output: str
    images: int
    heads: tuple[StoredHead, ...]
    outputs: tuple[str, ...]
    skipped: Mapping[str, str]
    parameters: Mapping[str, Any]


@inputs_unchanged()
def capture(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    **options: Unpack[CaptureOptions],
) -> Capture:
    """Run an ONNX model on images and store what its RoI nodes read and gave.

    ``image`` are photos, ``input`` arrays by the names of the model's inputs; ``output`` is an HDF5
    file with a group a head (``pipeline/capture/store``). The model is run as far as the RoI nodes
    and the tensors ``outputs``, in a process of its own with ``max_memory`` and ``max_seconds``.
    Raises RoicliError.
    """
    check_known("capture", options, CaptureOptions)
    request, path, target = settle(CaptureRequest, options), os.fspath(model), os.fspath(output)
    preparation = request.preparation
    files = _watch_model(path)
    plan = plan_capture(path, request.outputs or (), request.allow_external)
    inputs = open_run_inputs(
        path, plan.cut.inputs, plan.model.inputs, request.image or (), request.input, preparation
    )
    check_output(target, [path, *inputs.files], request.force, ENDINGS)
    device = choose_device(request.provider, request.device_id)
    if inputs.photos and not preparation.is_said and _is_float(inputs):
        logger.warning(
            "photos are given as they are, pixels from 0 to 255 as RGB: --preset, --mean and --std "
            "say what the network was trained with"
        )
    parameters = _describe(plan.model, inputs, request, device)
    fingerprint = _fingerprint(parameters, {**files, **inputs.files}) if request.resume else None
    with as_output_errors(target), PartFile(target) as part:
        with closing(TensorLog(part, fingerprint, request.force)) as log:
            try:
                _run_all(plan, inputs, device, request, log)
            except (InputError, ParameterError):
                part.forget()
                raise
            tree = CaptureTree(plan, log, parameters)
            if not tree.heads and not plan.named:
                part.forget()
                raise InputError(f"{path}: no RoI node was reached on any image")
            _tell(plan, tree, log)
            needed = tree.total_bytes + HDF5_OVERHEAD * (1 + len(tree.heads))
            check_room(target, os.path.dirname(target), needed)
            _write(part, tree)
            images = sum(int(entry.facts["images"]) for entry in log.entries)
        part.publish(request.force)
    named = tuple(one.name for one in plan.named)
    return Capture(target, images, tree.heads, named, plan.model.skipped, parameters)


def _write(part: PartFile, tree: CaptureTree) -> None:
    # HDF5 takes a tenth of a second to import, which a refused call does not wait for.
    from roicli.storage.formats.hdf5.tree import write_tree

    write_tree(part.path, tree.nodes())


def _watch_model(path: str) -> dict[str, FileState]:
    from roicli.storage.address import check_regular_file

    check_regular_file(path)
    files = {path: read_state(path)}
    watch(files)
    return files


def choose_device(provider: Provider, device_id: int) -> Device:
    """Where the model runs. Raises ProviderError, ParameterError."""
    from roicli.runtime.providers import choose_provider

    if provider == "native":
        raise ParameterError(
            "provider native runs RoI operators only, and no model", "give cpu, cuda or auto"
        )
    chosen = choose_provider(provider, device_id)
    return Device("cuda" if chosen == "cuda" else "cpu", device_id if chosen == "cuda" else 0)


def _is_float(inputs: RunInputs) -> bool:
    one = inputs.photo_input
    return one is not None and one.dtype is not None and one.dtype.kind == "f"


def _run_all(
    plan: CapturePlan,
    inputs: RunInputs,
    device: Device,
    request: CaptureRequest,
    log: TensorLog,
) -> None:
    """Run what the log does not have yet."""
    done, size = len(log.entries), 0
    if done >= inputs.runs:
        return
    cut = plan.cut
    model = Model(plan.model.path, cut.model, cut.outputs, cut.folder)
    runs = run_model(
        model, inputs.feeds(done), device, request.threads or usable_cores(), request.limits
    )
    with closing(runs) as answers:  # type: ignore[type-var]
        for values, facts in answers:
            arrays = log_arrays(plan, values)
            size += value_bytes(values)
            images = count_images(arrays)
            ids = inputs.image_ids(done, images)
            log.append({"images": images, "ids": ids, "sizes": facts["sizes"]}, arrays)
            done += 1
            request.progress(done, inputs.runs, size)


def _tell(plan: CapturePlan, tree: CaptureTree, log: TensorLog) -> None:
    """What a person should know of nodes that no run came to, and of sizes that do not fit."""
    reached = {node for head in tree.heads for node in head.nodes}
    for site in plan.model.sites:
        if str(site.name) not in reached:
            logger.warning(f"node {site.name} was not reached on any image ({site.where})")
    for head in plan.model.heads:
        site = head.first
        for entry in log.entries:
            place = entry.arrays.get(f"map{plan.places[site].features}")
            size = entry.facts["sizes"][1]
            if place is None or site.operator == "crop-and-resize" or 0 in size:
                continue
            covered = [side / site.spatial_scale for side in place.shape[2:]]
            if any(not own - 1 <= side < own + PADDING_PX + 1 / site.spatial_scale
                   for side, own in zip(covered, size, strict=True)):  # fmt: skip
                shown = " x ".join(f"{side:g}" for side in covered)
                logger.info(
                    f"the map of {site.name} covers {shown} px (height x width), and the model's "
                    f"input is {size[0]} x {size[1]}: RoIs are in the pixels of an image that the "
                    "model resizes by itself"
                )
                return


def _describe(
    model: ModelPlan, inputs: RunInputs, request: CaptureRequest, device: Device
) -> dict[str, Any]:
    from roicli.runtime.onnx_runtime import ort

    return {
        "operator": "capture",
        "roicli_version": __version__,
        "onnxruntime_version": str(ort.__version__),
        "model_name": os.path.basename(model.path),
        "model_opset": model.opset,
        "provider_requested": request.provider,
        "provider_used": device.kind,
        **{
            name: value
            for name, value in (
                {"outputs": list(request.outputs or ())} | inputs.describe()
            ).items()
            if value != []  # which no attribute holds
        },
        "created_utc": utc_now(),
    }


def _fingerprint(parameters: Mapping[str, Any], files: Mapping[str, FileState]) -> dict[str, str]:
    """What a run must share to go on with what another kept."""
    said = {name: str(value) for name, value in parameters.items() if name != "created_utc"}
    states = {f"state of {path}": f"{state.size} bytes, {state.mtime_ns} ns"
              for path, state in files.items()}  # fmt: skip
    long = {name: value for name, value in said.items() if len(value) > 1000}
    said |= {name: hashlib.sha256(value.encode()).hexdigest() for name, value in long.items()}
    return said | states
