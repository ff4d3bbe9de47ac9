"""What a model is run on: photos, arrays, or both, as one set of inputs a run.

An array is given as it is where it has the shape that the input is declared with; where its first
axis is that of several runs, each run takes its part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from roicli.core.exceptions import InputError, ParameterError
from roicli.core.foreign import foreign
from roicli.core.parse import did_you_mean
from roicli.core.record import frozen
from roicli.core.types import Array
from roicli.pipeline.capture.graph import ModelInput
from roicli.pipeline.capture.photos import (
    Preparation,
    check_fits,
    check_pillow,
    image_id,
    is_photo_like,
    read_photo,
)
from roicli.storage.address import check_regular_file, parse_address
from roicli.storage.file_state import FileState, read_state
from roicli.storage.limits import check_memory
from roicli.storage.open import open_array, watch


@frozen
class GivenArray:
    """An array for an input, ``name`` in messages; a run takes ``rows`` items of it.

    ``rows`` None is all of it for every run, 0 one item without its axis.
    """

    values: Array
    name: str
    rows: int | None

    def of_run(self, number: int) -> Array:
        """What run ``number`` is given."""
        if self.rows is None:
            return self.values
        if self.rows == 0:
            return np.asarray(self.values[number])
        return self.values[number * self.rows : (number + 1) * self.rows]


@frozen
class RunInputs:
    """What ``runs`` runs are given: a photo each, where there are photos, and arrays by input."""

    photos: tuple[str, ...]
    photo_input: ModelInput | None
    preparation: Preparation
    arrays: Mapping[str, GivenArray]
    runs: int
    files: Mapping[str, FileState]

    def feeds(self, first: int) -> Iterator[tuple[dict[str, Array], dict[str, Any]]]:
        """The inputs of each run from ``first`` on, and its image's sizes: the original's and the
        network's (height, width).
        """
        for number in range(first, self.runs):
            given = {
                name: np.ascontiguousarray(one.of_run(number)) for name, one in self.arrays.items()
            }
            if self.photo_input is None:
                yield given, {"sizes": _find_sizes(given)}
                continue
            photo = read_photo(self.photos[number], self.preparation, self.photo_input)
            given[self.photo_input.name] = photo.values
            yield given, {"sizes": [list(photo.original), list(photo.network)]}

    def image_ids(self, run: int, images: int) -> list[str]:
        """What the ``images`` of a run are called."""
        if not self.photos:
            return [str(run * images + number) for number in range(images)]
        name = image_id(self.photos[run])
        is_alone = sum(image_id(photo) == name for photo in self.photos) == 1
        name = name if is_alone else self.photos[run]
        return [name] if images == 1 else [f"{name}#{number}" for number in range(images)]

    def describe(self) -> dict[str, Any]:
        """What provenance says of the inputs."""
        found: dict[str, Any] = {
            "inputs": [f"{foreign(name)}={one.name}" for name, one in self.arrays.items()],
            "photos": list(self.photos),
        }
        return found | (self.preparation.describe() if self.photos else {})


def _find_sizes(given: Mapping[str, Array]) -> list[list[int]]:
    """Height and width of the first input that looks like images, twice; zeros without one."""
    for values in given.values():
        if values.ndim in (3, 4):
            last = values.shape[-1] in (1, 3) and values.shape[-3] not in (1, 3)
            size = list(values.shape[-3:-1] if last else values.shape[-2:])
            return [size, size]
    return [[0, 0], [0, 0]]


def open_run_inputs(
    model: str,
    wanted: Sequence[ModelInput],
    everything: Sequence[ModelInput],
    photos: Sequence[str],
    given: Sequence[str] | Mapping[str, Any] | None,
    preparation: Preparation,
) -> RunInputs:
    """What the inputs ``wanted`` are given; of ``everything`` the others are not looked at.

    Raises InputError where one lacks or does not fit.
    """
    sources = _parse_given(given)
    known = {one.name: one for one in everything}
    for name in sources:
        if name not in known:
            raise ParameterError(
                f"{model}: has no input {foreign(name)!s}, its inputs are: "
                f"{', '.join(map(str, everything)) or 'none'}",
                did_you_mean(name, list(known)) or None,
            )
    files: dict[str, FileState] = {}
    held = {
        one.name: _read_array(one, sources[one.name], files)
        for one in wanted
        if one.name in sources
    }
    missing = [one for one in wanted if one.name not in sources]
    photo_input = _choose_photo_input(model, missing, photos)
    missing = [one for one in missing if one is not photo_input]
    if missing:
        raise InputError(
            f"{model}: input {missing[0]} is not given",
            f"add --input {foreign(missing[0].name)}=FILE"
            + (" or --image PHOTO" if not photos and is_photo_like(missing[0]) else ""),
        )
    for photo in photos:
        check_regular_file(photo)
        files[photo] = read_state(photo)
    watch(files)
    runs, arrays = _share_out(wanted, held, len(photos))
    return RunInputs(tuple(photos), photo_input, preparation, arrays, runs, files)


def _parse_given(given: Sequence[str] | Mapping[str, Any] | None) -> dict[str, Any]:
    """Inputs by name. Raises ParameterError."""
    if isinstance(given, Mapping):
        return dict(given)
    found: dict[str, Any] = {}
    for text in given or ():
        name, equals, address = text.partition("=")
        if not equals or not name or not address:
            raise ParameterError(f"input is {text!r}, expected NAME=FILE or NAME=FILE::DATASET")
        if name in found:
            raise ParameterError(f"input {foreign(name)} is given twice")
        found[name] = address
    return found


def _read_array(one: ModelInput, source: Any, files: dict[str, FileState]) -> tuple[Array, str]:
    """The values for an input, of just its dtype. Raises InputError."""
    if isinstance(source, str):
        with closing(open_array(parse_address(source), "any")) as stored:
            check_memory(stored.name, "the input", int(np.prod(stored.shape, dtype=float)) * 8)
            values, name = stored.read_all(), str(stored.name)
            files.update(stored.files)
    else:
        values, name = np.asarray(source), f"input {foreign(one.name)}"
    if one.dtype == bool and values.dtype == np.uint8 and np.all(values <= 1):
        values = values.astype(bool)  # which no file of arrays here holds
    if one.dtype is None or values.dtype != one.dtype:
        kind = "no tensor of numbers" if one.dtype is None else f"{one.dtype}"
        raise InputError(
            f"{name}: dtype is {values.dtype}, and the model's input {foreign(one.name)} is {kind}",
            "save it in that dtype, bool as uint8 of 0 and 1: inputs are given as they are",
        )
    return values, name


def _choose_photo_input(
    model: str, missing: Sequence[ModelInput], photos: Sequence[str]
) -> ModelInput | None:
    """The input that takes the photo. Raises InputError where none does, or several may."""
    if not photos:
        return None
    check_pillow()
    fitting = [one for one in missing if is_photo_like(one)]
    if len(fitting) != 1:
        shown = ", ".join(map(str, fitting or missing)) or "all are given"
        found = "several inputs may take" if fitting else "no input takes"
        raise InputError(
            f"{model}: {found} a photo: {shown}", "give the others with --input NAME=FILE"
        )
    return fitting[0]


def _share_out(
    wanted: Sequence[ModelInput], held: Mapping[str, tuple[Array, str]], photos: int
) -> tuple[int, dict[str, GivenArray]]:
    """How many runs there are, and what each takes of every array. Raises InputError."""
    said = {one.name: one for one in wanted}
    rows = {name: _rows_of_run(said[name], *found, photos) for name, found in held.items()}
    split = {
        name: len(held[name][0]) // max(count, 1)
        for name, count in rows.items()
        if count is not None
    }
    runs = photos or max(split.values(), default=1)
    for name, count in split.items():
        if count != runs:
            raise InputError(
                f"{held[name][1]}: has inputs for {count:,} runs, expected {runs:,}"
                + (", one a photo" if photos else " as the others have")
            )
    return runs, {name: GivenArray(*held[name], rows[name]) for name in held}


def _rows_of_run(one: ModelInput, values: Array, name: str, photos: int) -> int | None:
    """How many items of an array a run takes; None for all of it, 0 for one without its axis."""
    shape, said = values.shape, one.shape
    if said is None:
        return None
    if len(shape) == len(said) and shape:
        first, rest = said[0], ModelInput(one.name, one.dtype, said[1:])
        if _fits(shape[1:], rest):
            if isinstance(first, int) and first > 0 and len(values) != first:
                if len(values) % first == 0 and len(values):
                    return first
            elif not isinstance(first, int) and photos > 1 and len(values) == photos:
                return 1
    if len(shape) == len(said) + 1 and _fits(shape[1:], one):
        return 0
    check_fits(shape, one, name, "give it as the model takes it")
    return None


def _fits(shape: Sequence[int], one: ModelInput) -> bool:
    try:
        check_fits(shape, one, "", "")
    except InputError:
        return False
    return True
