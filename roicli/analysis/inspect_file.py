"""``roicli.inspect``: what a file holds and what roicli would make of it, before anything runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

import numpy as np

from roicli.analysis.inspect_model import ModelReport, inspect_model
from roicli.analysis.inspect_openvino import inspect_openvino, is_openvino
from roicli.analysis.result.origin import MEANINGS, Origin, find_origin
from roicli.core.declaration import check_known, record, settle
from roicli.core.exceptions import InputError
from roicli.core.look_options import InspectOptions
from roicli.core.norms import deviation_rows, mean_of, no_sums, root_mean
from roicli.core.record import frozen
from roicli.core.shown import Shown
from roicli.operators.levels import level_of_scale
from roicli.pipeline.image_sizes import DATASET as IMAGE_SIZES
from roicli.pipeline.map_keys import NAMES as IMAGE_LISTS
from roicli.pipeline.map_scale import SCALE_ATTRIBUTE
from roicli.storage.address import parse_address
from roicli.storage.array import FileContents, Heading, StoredDataset, describe_sharing
from roicli.storage.choice import Role, Wanted
from roicli.storage.limits import external_files
from roicli.storage.open import read_contents
from roicli.storage.pattern import address_of, find_keys, is_pattern
from roicli.storage.roi_columns import find_columns, show_names

MODEL_ENDING = ".onnx"
# FlatBuffers name their schema after an offset of four bytes.
TFLITE = b"TFL3"


@frozen
class ValueRange:
    """Over all values of a dataset; the first four over the finite ones, None without any.

    The extremes of integers are integers.
    """

    min: float | None
    max: float | None
    mean: float | None
    std: float | None
    zeros: int
    nan: int
    infinite: int


@frozen
class DatasetReport:
    """One dataset as stored, what it can be used as and why, and its values where asked for.

    ``is_result``: it is a part of a result of roicli's, and ``why`` says which.
    """

    stored: StoredDataset
    usable_as: str | None
    why: str
    values: ValueRange | None = None
    is_result: bool = False


@frozen
class Choice:
    """What a command takes for one input when it is given the file alone; None: it would refuse."""

    address: str | None
    why: str


@frozen
class ArrayReport(Shown):
    """A file of arrays: its own attributes, its datasets, and what is taken for each input.

    ``origin`` is the run that made it, where it is a result of roicli's.
    """

    path: str
    file_format: str
    attributes: Mapping[str, Any]
    datasets: tuple[DatasetReport, ...]
    features: Choice
    rois: Choice
    origin: Origin | None = None


@record(InspectOptions)
class InspectRequest:
    """What was asked of ``inspect``."""

    stats: bool
    allow_external: bool


def inspect(
    path: str | os.PathLike[str], **options: Unpack[InspectOptions]
) -> ArrayReport | ModelReport:
    """What a file of arrays, in any format that is read, or a model (ONNX, OpenVINO IR) holds.

    ``path`` may name a group or dataset of HDF5 or Zarr, as ``file.h5::/group``. ``stats`` reads
    the values, block by block, for their ranges; ``allow_external`` lets HDF5 files lead to others.
    Of a model only the graph is read, no external weights. Raises InputError.
    """
    check_known("inspect", options, InspectOptions)
    request, address = settle(InspectRequest, options), parse_address(path)
    if os.path.splitext(address.path)[1].lower() == MODEL_ENDING:
        if address.dataset is not None:
            raise InputError(f"{address}: inspect shows a whole model", f"write {address.path}")
        return inspect_model(address.path)
    if is_openvino(address.path):
        return inspect_openvino(address.path)
    if is_tflite(address.path):
        raise InputError(
            f"{address}: is a TFLite model, whose graph roicli does not read",
            "make it ONNX (python -m tf2onnx.convert --tflite FILE --output m.onnx) and inspect "
            "that",
        )
    if address.is_stdin:
        raise InputError("stdin: inspect reads files", "save it, and give the file's name")
    if is_pattern(address):
        keys = find_keys(address)
        raise InputError(
            f"{address}: stands for {len(keys):,} images",
            f"show one: {address_of(address, keys[0])}",
        )
    with external_files(request.allow_external):
        return inspect_arrays(read_contents(address), request.stats)


def is_tflite(path: str) -> bool:
    """Whether a file is a TFLite model by its first bytes."""
    try:
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as stream:
            return stream.read(len(TFLITE) + 4)[4:] == TFLITE
    except OSError:
        return False


def inspect_arrays(contents: FileContents, stats: bool) -> ArrayReport:
    """The report on what a file holds; with ``stats`` its datasets are opened, one by one."""
    names = [_name_of(dataset) for dataset in contents.datasets]
    origin = find_origin(contents.path, contents.attributes, names)
    reports = [
        _report(dataset, stats, MEANINGS.get(name) if origin else None)
        for name, dataset in zip(names, contents.datasets, strict=True)
    ]
    return ArrayReport(
        contents.path, contents.file_format, contents.attributes, tuple(reports),
        _choose("features", contents), _choose("rois", contents), origin,
    )  # fmt: skip


def _name_of(dataset: StoredDataset) -> str:
    return dataset.address.partition("::")[2].strip("/")


def _report(dataset: StoredDataset, stats: bool, meaning: str | None) -> DatasetReport:
    usable_as, why = describe_use(dataset)
    measured = stats and dataset.is_numeric and dataset.shape and dataset.open
    values = measure_values(dataset) if measured else None
    shown = replace(dataset, open=None)
    return DatasetReport(shown, usable_as, meaning or why, values, meaning is not None)


def describe_use(dataset: StoredDataset) -> tuple[str | None, str]:
    """What a dataset can be used as when it is named, and why."""
    shape = dataset.shape
    if dataset.columns is not None:
        return describe_columns(dataset.columns)
    about_images = _describe_image_list(dataset)
    if about_images is not None:
        return None, about_images
    if shape is None or not dataset.is_numeric:
        return None, "empty" if shape is None else f"{dataset.dtype} is no number that roicli reads"
    if len(shape) > 2 and 0 not in shape:
        return _describe_map_or_boxes(dataset, shape)
    return _describe_rows(shape)


def _describe_rows(shape: Sequence[int]) -> tuple[str | None, str]:
    """The use of an array of one or two axes, or without values."""
    if len(shape) == 1:
        return "level numbers", "1-D: --level-from takes it where there are as many RoIs"
    columns = f" with {shape[1]} columns" if len(shape) == 2 else ""
    if len(shape) == 2 and shape[1] in (4, 5):
        meaning = "batch_index and four coordinates" if shape[1] == 5 else "four coordinates"
        return "rois", f"2-D{columns}: {meaning}"
    more = ": boxes and more? --roi-columns names them" if columns and shape[1] in (6, 7) else ""
    return None, f"{len(shape)}-D{columns}{', without values' if 0 in shape else more}"


def _describe_image_list(dataset: StoredDataset) -> str | None:
    """What is said of the images beside maps; None of any other dataset."""
    name, shape = _name_of(dataset).rpartition("/")[2], dataset.shape or ()
    if name in IMAGE_LISTS and len(shape) == 1:
        return "names of the images: what RoIs call them is looked up here"
    if name == IMAGE_SIZES and shape[1:] == (2, 2):
        return "original and network size (height, width) of each image: scales RoIs"
    return None


def _describe_map_or_boxes(dataset: StoredDataset, shape: Sequence[int]) -> tuple[str | None, str]:
    """The use of an array of three axes or more."""
    if len(shape) > 4:
        return None, f"{len(shape)}-D"
    if len(shape) == 3 and shape[2] == 4:
        # A map four cells wide is much the rarer.
        return "rois", "3-D: boxes (N, M, 4), image by image; as FEATURES (C, H, W), one image"
    layout = "(N, C, H, W)" if len(shape) == 4 else "(C, H, W), one image"
    shares = dataset.chunks and len(shape) == 4 and dataset.reads_whole_chunks
    sharing = describe_sharing(shape[0], dataset.chunks[0] if dataset.chunks and shares else 1)
    slow = f"; {sharing}" if sharing else ""
    return "features", f"{len(shape)}-D: {layout}{_describe_scale(dataset, shape)}{slow}"


def describe_columns(headings: Sequence[Heading]) -> tuple[str | None, str]:
    """Whether a table of these columns holds RoIs, and which are which."""
    shown = show_names(headings)
    if not any(one.name for one in headings):
        width = len(headings)
        if width in (4, 5):
            columns = "batch_index and four coordinates" if width == 5 else "four coordinates"
            return "rois", f"table without names, {width} columns: {columns}"
        return None, f"table without names, {width} columns: name them with --roi-columns"
    try:
        found = find_columns(headings, None, "table")
    except InputError as error:
        return None, f"table of {shown}, no boxes by these names; {error.hint}"
    box = show_names([headings[place] for place in found.coordinates])
    images = [headings[place] for place in (found.image, *found.rivals) if place is not None]
    image = show_names(images).replace(", ", " or ") or "none"
    others = show_names([headings[place] for place in found.carried])
    return "rois", (
        f"table: the image is {image}, the box {box} as {found.roi_format}"
        + (f", carried: {others}" if others else "")
    )


def _describe_scale(dataset: StoredDataset, shape: Sequence[int]) -> str:
    scale = dataset.attributes.get(SCALE_ATTRIBUTE)
    if isinstance(scale, list) and len(scale) == 1:
        scale = scale[0]
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not scale > 0:
        return "; no stride known, give --spatial-scale"
    level = level_of_scale(scale)
    named = "" if level is None else f", level {level}"
    height, width = (side / scale for side in shape[-2:])
    return f"; stride {1 / scale:g}{named}: an image of {height:g} x {width:g} px (height x width)"


def _choose(role: Role, contents: FileContents) -> Choice:
    """The file alone as an input: the rule of ``storage.open``, in words."""
    wanted = Wanted(role)
    if len(contents.datasets) == 1 and contents.datasets[0].address == contents.path:
        return _choose_only(wanted, contents.datasets[0])
    fitting = [d for d in contents.datasets if d.shape and d.is_numeric and wanted.fits(d.shape)]
    if not fitting and role == "rois":
        tables = [one for one in contents.datasets if one.columns and describe_use(one)[0] == role]
        if len(tables) == 1:
            return Choice(tables[0].address, "the only table of boxes")
        if tables:
            return Choice(None, f"{len(tables)} tables of boxes: name one")
    if len(fitting) == 1:
        return Choice(fitting[0].address, f"the only dataset that is {wanted}")
    if not fitting:
        return _choose_possible(wanted, contents)
    why = f"{len(fitting)} datasets are {wanted}: name one, like {fitting[0].address}"
    if role == "features":
        names = ",".join(dataset.address.rpartition("/")[2] for dataset in fitting)
        why += f", or make them a pyramid with --levels {names}"
    return Choice(None, why)


def _choose_possible(wanted: Wanted, contents: FileContents) -> Choice:
    """What is taken where nothing fits: the only array that may be meant."""
    numeric = [(one, one.shape) for one in contents.datasets if one.is_numeric]
    possible = [one.address for one, shape in numeric if shape and wanted.may_fit(shape)]
    if len(possible) == 1:
        return Choice(possible[0], f"no dataset is {wanted}, and only this one may be meant")
    return Choice(None, f"no dataset is {wanted}")


def _choose_only(wanted: Wanted, dataset: StoredDataset) -> Choice:
    """A file with one array is taken for what its shape allows."""
    usable_as, why = describe_use(dataset)
    if wanted.role == "features" and dataset.columns is not None:
        return Choice(None, "features are read from files of arrays, not from a table")
    may_be_map = wanted.role == "features" and len(dataset.shape or ()) == 3
    if usable_as == wanted.role or (may_be_map and dataset.is_numeric):
        return Choice(dataset.address, why)
    return Choice(None, f"the array is {dataset.shape} {dataset.dtype}, not {wanted}")


def measure_values(dataset: StoredDataset) -> ValueRange:
    """Extremes, mean, deviation and odd values, in one pass over the blocks.

    Mean and squared deviations are merged block by block (Chan et al. 1983), which does not cancel,
    and are right for numbers of every size.
    """
    low: float = np.inf
    high: float = -np.inf
    count, mean, squares = 0, 0.0, no_sums(1)
    zeros = nan = infinite = 0
    for block in dataset.blocks():
        with np.errstate(invalid="ignore"):  # said of signalling NaNs
            values = block.astype(np.float64).reshape(-1)
        known = np.isfinite(values)
        nan += int(np.count_nonzero(np.isnan(values)))
        infinite += int(np.count_nonzero(np.isinf(values)))
        zeros += int(np.count_nonzero(values == 0))
        if not known.any():
            continue
        stored, finite = block.reshape(-1)[known], values[known]
        # An integer past 2^53 is itself, not the nearest float64.
        low, high = min(low, stored.min().item()), max(high, stored.max().item())
        block_mean, total = mean_of(finite), count + len(finite)
        deviations = deviation_rows(finite[None], block_mean)
        squares.add(slice(None), deviations.dot(deviations))
        between = deviation_rows(np.array([[block_mean]]), mean)
        weight = count * len(finite) / total
        squares.add(slice(None), between.dot(between).times(weight))
        # In halves, for the two means may be further apart than float64 reaches.
        step = (block_mean / 2 - mean / 2) * (len(finite) / total)
        mean = mean + step + step
        count = total
    if count == 0:
        return ValueRange(None, None, None, None, zeros, nan, infinite)
    return ValueRange(low, high, mean, float(root_mean(squares, count)[0]), zeros, nan, infinite)
