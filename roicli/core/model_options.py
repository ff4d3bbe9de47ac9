"""The keywords of the calls that run a user's model, each one TypedDict."""

# Annotations are read at run time, so they are no text here.
from collections.abc import Mapping, Sequence
from typing import Annotated, TypedDict

from roicli.core.declaration import Opt, PythonOnly
from roicli.core.input_options import ExternalOption
from roicli.core.options import (
    DeviceIdOption,
    ForceOption,
    ProviderOption,
    ResourceOptions,
    ResumeOption,
)
from roicli.core.panels import LOOKING, PHOTOS, READING, RUNNING
from roicli.core.parse import ArrayLike, Path, as_names, as_several
from roicli.core.progress import Progress, no_progress
from roicli.core.vocabulary import Channels, PhotoLayout, PhotoPreset


class PhotoOptions(TypedDict, total=False):
    """How a photo becomes what a network takes; the input's shape says what is not given.

    ``photo_preset`` is what a library's detectors are fed with; ``mean`` and ``std`` are those of
    pixels from 0 to 255, in the order of ``channels``; both sides are padded to multiples of
    ``pad``.
    """

    photo_preset: Annotated[
        PhotoPreset | None,
        Opt("--preset", PHOTOS, "As a library feeds its detectors; other options override it."),
    ]
    resize: Annotated[
        str | None,
        Opt(
            "--resize",
            PHOTOS,
            "To a size, or to a shorter side with a bound on the longer one, like 800:1333.",
            metavar="HxW|SHORT[:LONG]",
        ),
    ]
    mean: Annotated[
        str | Sequence[float] | None,
        Opt(
            "--mean",
            PHOTOS,
            "To subtract, of pixels from 0 to 255, one or one a channel.",
            metavar="X[,Y,Z]",
        ),
    ]
    std: Annotated[
        str | Sequence[float] | None,
        Opt("--std", PHOTOS, "To divide by then, one or one a channel.", metavar="X[,Y,Z]"),
    ]
    channels: Annotated[
        Channels | None, Opt("--channels", PHOTOS, "Their order.", shown="the preset's, else rgb")
    ]
    pad: Annotated[
        int | None,
        Opt(
            "--pad",
            PHOTOS,
            "Make both sides multiples of this, by zeros below and to the right.",
            metavar="N",
        ),
    ]
    photo_layout: Annotated[
        PhotoLayout,
        Opt("--layout", PHOTOS, "The axes of the model's input; auto is by its shape.", "auto"),
    ]


class ModelRunOptions(
    PhotoOptions, ExternalOption, ProviderOption, ResourceOptions, DeviceIdOption, total=False
):
    """What a user's model is run on, and what it may take.

    ``image`` are photos; ``input`` "NAME=FILE[::DATASET]" or a mapping of names to addresses or
    arrays, which are given as they are.
    """

    image: Annotated[
        list[str] | Path | None,
        Opt(
            "--image",
            READING,
            "A photo to run the model on. Repeatable.",
            metavar="PHOTO",
            read=as_several,
            outward=True,
        ),
    ]
    input: Annotated[
        list[str] | str | Mapping[str, ArrayLike | str] | None,
        Opt(
            "--input",
            READING,
            "An array for an input of the model, as it is. Repeatable.",
            metavar="NAME=FILE[::DATASET]",
            read=as_several,
            outward=True,
        ),
    ]
    max_seconds: Annotated[
        float,
        Opt(
            "--max-seconds",
            RUNNING,
            "Processor time that the model may take for an image.",
            600.0,
            metavar="X",
        ),
    ]


class CaptureOptions(ForceOption, ResumeOption, ModelRunOptions, total=False):
    """The keywords of ``capture``; ``outputs`` are tensors by name, beside the RoI nodes'."""

    outputs: Annotated[
        str | Sequence[str] | None,
        Opt(
            "--outputs",
            READING,
            "Tensors of the model by name, which need be no RoI node's.",
            metavar="NAME,...",
            read=as_names,
        ),
    ]
    progress: Annotated[Progress, PythonOnly("Told (images done, in all, bytes).", no_progress)]


class AgainstOption(TypedDict, total=False):
    """Other runtimes' results of the same captured inputs."""

    against: Annotated[
        list[str] | Path | None,
        Opt(
            "--against",
            LOOKING,
            "Another runtime's result of the same inputs: .npy, .h5, trtexec's .json. Repeatable.",
            metavar="[HEAD=]FILE[::DATASET]",
            read=as_several,
            outward=True,
        ),
    ]


class VerifyModelOptions(AgainstOption, ModelRunOptions, total=False):
    """The keywords of ``verify_model``; a captured file needs none that say how a model is run."""

    tolerance: Annotated[
        float,
        Opt(
            "--tolerance",
            None,
            "Distance within which another runtime's result agrees, of how the result varies.",
            1e-4,
            metavar="X",
        ),
    ]
