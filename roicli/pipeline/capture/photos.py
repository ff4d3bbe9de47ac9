"""Photos as a network takes them: resized, in another order of channels, minus mean, over std.

The presets are what the libraries' own detectors are fed with. ``mean`` and ``std`` are those of
pixels from 0 to 255, in the order of the channels that the network gets.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from roicli.core.exceptions import InputError, MissingPackageError, ParameterError
from roicli.core.record import frozen
from roicli.core.types import Array, Size
from roicli.core.vocabulary import Channels, PhotoPreset
from roicli.pipeline.capture.graph import ModelInput
from roicli.storage.address import check_regular_file
from roicli.storage.limits import check_memory

INSTALL = "pip install 'roicli[photo]'"
_RESIZE = r"\s*(?:(\d{1,6})[xX](\d{1,6})|(\d{1,6})(?::(\d{1,6}))?)\s*"
# torchvision's detectors normalize and resize inside; detectron2's subtract their mean inside;
# mmdeploy's graphs begin after mmdet's preprocessor.
PHOTO_PRESETS: dict[PhotoPreset, Mapping[str, Any]] = {
    "torchvision": {"channels": "rgb", "std": (255.0,)},
    "detectron2": {"channels": "bgr", "resize": "800:1333"},
    "mmdet": {
        "channels": "rgb",
        "resize": "800:1333",
        "mean": (123.675, 116.28, 103.53),
        "std": (58.395, 57.12, 57.375),
        "pad": 32,
    },
}
# Pixels are decoded as bytes, and made numbers of 32 bits twice.
BYTES_A_PIXEL = 3 + 2 * 12


@frozen
class Resize:
    """``exact`` height and width, or the shorter side, with a bound on the longer one."""

    exact: Size | None = None
    shorter: int | None = None
    longest: int | None = None

    def of(self, size: Size) -> Size:
        """What an image of ``size`` (height, width) becomes."""
        if self.exact is not None:
            return self.exact
        if self.shorter is None:
            return size
        factor = self.shorter / min(size)
        if self.longest is not None:
            factor = min(factor, self.longest / max(size))
        height, width = (max(1, math.floor(side * factor + 0.5)) for side in size)
        return height, width

    def __str__(self) -> str:
        if self.exact is not None:
            return f"{self.exact[0]}x{self.exact[1]}"
        if self.shorter is None:
            return "none"
        return str(self.shorter) if self.longest is None else f"{self.shorter}:{self.longest}"


def parse_resize(text: str) -> Resize:
    """``HxW``, ``SHORTER`` or ``SHORTER:LONGEST``. Raises ParameterError."""
    match = re.fullmatch(_RESIZE, text)
    numbers = [int(part) for part in (match.groups() if match else ()) if part is not None]
    if match is None or min(numbers) < 1:
        raise ParameterError(
            f"resize is {text!r}, expected HEIGHTxWIDTH, the shorter side, or SHORTER:LONGEST"
        )
    if match[1] is not None:
        return Resize(exact=(numbers[0], numbers[1]))
    return Resize(shorter=numbers[0], longest=numbers[1] if match[4] else None)


@frozen
class Preparation:
    """What is done to a photo, in this order; ``pad`` is a side that both sides become whole
    multiples of, by zeros below and to the right.
    """

    resize: Resize
    channels: Channels = "rgb"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    pad: int = 1
    layout: str = "auto"
    is_said: bool = False

    def describe(self) -> dict[str, Any]:
        """What provenance says of it."""
        own = asdict(self) | {"resize": str(self.resize)}
        del own["is_said"]
        return {f"photo_{name}": value for name, value in own.items()} | {
            "photo_filter": "Pillow bilinear"
        }


def settle_preparation(options: Mapping[str, Any]) -> Preparation:
    """The preset's preparation, or none, with what was said over it. Raises ParameterError."""
    preset = options["photo_preset"]
    said = dict(PHOTO_PRESETS[preset]) if preset else {}
    given = {
        name: options[name]
        for name in ("resize", "channels", "mean", "std", "pad")
        if options[name] is not None
    }
    said |= given
    for name in ("mean", "std"):
        said[name] = _read_numbers(said.get(name, (0.0 if name == "mean" else 1.0,)), name)
    if not all(value > 0 for value in said["std"]):
        raise ParameterError(f"std is {said['std']}, expected positive numbers")
    pad = int(said.get("pad", 1))
    if pad < 1:
        raise ParameterError(f"pad is {pad}, expected a whole number of at least 1")
    resize = parse_resize(str(said["resize"])) if said.get("resize") else Resize()
    return replace(
        Preparation(resize, mean=said["mean"], std=said["std"], pad=pad),
        channels=said.get("channels", "rgb"),
        layout=options["photo_layout"],
        is_said=bool(preset or given),
    )


def _read_numbers(value: Any, name: str) -> tuple[float, ...]:
    """One number or one a channel."""
    try:
        parts = value.split(",") if isinstance(value, str) else value
        found = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        found = ()
    if len(found) not in (1, 3) or not all(map(math.isfinite, found)):
        raise ParameterError(f"{name} is {value!r}, expected one number or three, like 0 or 1,2,3")
    return found


@frozen
class Photo:
    """A photo as a network takes it, and its sizes before and after the resize."""

    values: Array
    original: Size
    network: Size


def check_pillow() -> None:
    """Raise MissingPackageError where Pillow is not installed."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        raise MissingPackageError("photos need Pillow, which is not installed", INSTALL) from None


def read_photo(path: str, preparation: Preparation, wanted: ModelInput) -> Photo:
    """A photo for an input of a model. Raises InputError, also where it does not fit."""
    pixels, original = _decode(path, preparation)
    network = (pixels.shape[0], pixels.shape[1])
    values = _fill(pixels, preparation, wanted.dtype or np.dtype(np.float32))
    values = _lay_out(values, preparation.layout, wanted)
    first = (wanted.shape or (None,))[0]
    if values.ndim == 4 and isinstance(first, int) and first > 1:
        raise InputError(
            f"{path}: is one image, and the model takes {first} at once: {wanted}",
            "give them as an array with --input",
        )
    check_fits(values.shape, wanted, f"{path}", "add --resize HEIGHTxWIDTH, or --layout")
    return Photo(values, original, network)


def _decode(path: str, preparation: Preparation) -> tuple[Array, Size]:
    from PIL import Image, ImageOps

    check_regular_file(path)
    try:
        with Image.open(path) as image:
            turned = _is_turned(image)
            width, height = image.size[::-1] if turned else image.size
            network = preparation.resize.of((height, width))
            pixels = max(width * height, network[0] * network[1])
            check_memory(path, "the photo", pixels * BYTES_A_PIXEL)
            upright = ImageOps.exif_transpose(image).convert("RGB")
            if network != (height, width):
                upright = upright.resize(network[::-1], Image.Resampling.BILINEAR)
            return np.asarray(upright), (height, width)
    except InputError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(f"{path}: cannot be read as a photo: {reason}") from error


def _is_turned(image: Any) -> bool:
    """Whether EXIF says that the photo lies on its side."""
    return image.getexif().get(0x0112, 1) in (5, 6, 7, 8)


def _fill(pixels: Array, preparation: Preparation, dtype: np.dtype[Any]) -> Array:
    """(H, W, 3) in the network's dtype, padded."""
    ordered = pixels if preparation.channels == "rgb" else pixels[:, :, ::-1]
    mean, std = (np.array(part, np.float32) for part in (preparation.mean, preparation.std))
    if np.all(mean == 0) and np.all(std == 1):
        values = ordered.astype(dtype)
    elif dtype.kind != "f":
        raise ParameterError(
            f"mean and std are given, and the model's input is {dtype}, which holds no fractions"
        )
    else:
        values = ((ordered.astype(np.float32) - mean) / std).astype(dtype)
    height, width = (-(-side // preparation.pad) * preparation.pad for side in values.shape[:2])
    padded = np.zeros((height, width, 3), dtype)
    padded[: values.shape[0], : values.shape[1]] = values
    return padded


def _lay_out(values: Array, layout: str, wanted: ModelInput) -> Array:
    """(H, W, 3) with its axes as the input has them."""
    if layout == "auto":
        layout = find_layout(wanted)
    axes = ["hwc".index(letter) for letter in layout.removeprefix("n")]
    turned = np.ascontiguousarray(values.transpose(axes))
    return turned[np.newaxis] if layout.startswith("n") else turned


def find_layout(wanted: ModelInput) -> str:
    """The axes of a photo by the input's declared shape: channels first unless 3 stands last."""
    shape = wanted.shape or (None,) * 4
    last = shape[-1] == 3 and shape[-3] != 3
    return ("n" if len(shape) == 4 else "") + ("hwc" if last else "chw")


def check_fits(shape: Sequence[int], wanted: ModelInput, name: str, hint: str) -> None:
    """Raise InputError where an array does not have the shape that an input is declared with."""
    said = wanted.shape
    if said is None:
        return
    fits = len(said) == len(shape) and all(
        not isinstance(side, int) or side == own for side, own in zip(said, shape, strict=True)
    )
    if not fits:
        raise InputError(
            f"{name}: shape is {tuple(shape)}, and the model's input is {wanted}", hint
        )


def is_photo_like(one: ModelInput) -> bool:
    """Whether a photo may be given for an input: three or four axes of numbers."""
    if one.dtype is None or one.dtype.kind not in "uf":
        return False
    if one.shape is None:
        return True
    channels = [side for side in one.shape[-3:] if not isinstance(side, int) or side == 3]
    return len(one.shape) in (3, 4) and bool(channels)


def image_id(path: str) -> str:
    """What a photo's image is called: the file's name."""
    return os.path.basename(path)
