"""The keywords of the calls that look at maps, RoIs and results, each one TypedDict."""

# Annotations are read at run time, so they are no text here.
from collections.abc import Sequence
from typing import Annotated, Required, TypedDict

from roicli.core.declaration import Opt, PythonOnly
from roicli.core.input_options import ExternalOption, IgnoreOption, ReadingOptions
from roicli.core.operator_options import (
    ModeOption,
    PresetOption,
    RatioOption,
    SamplingOptions,
    ScaleOption,
    SizeOption,
)
from roicli.core.operator_table import Operator, OperatorOptions, OwnOptions
from roicli.core.options import (
    CompressionOption,
    ComputeOptions,
    DaskOption,
    DeviceOptions,
    ForceOption,
    ResourceOptions,
    WatchOptions,
)
from roicli.core.panels import LOOKING, RULES, TABLE, TOLERATED
from roicli.core.parse import ArrayLike, Path, Size, as_bin, as_names, as_path, as_rows
from roicli.core.progress import Progress, no_progress
from roicli.core.vocabulary import ComparedStatistic


class LookOptions(
    OperatorOptions,
    OwnOptions,
    ReadingOptions,
    IgnoreOption,
    ExternalOption,
    total=False,
):
    """What ``align`` and ``pool`` compute, for the calls that look at it."""


class RoiOption(TypedDict, total=False):
    """The RoI that is looked at."""

    roi: Required[Annotated[int, Opt("--roi", LOOKING, "Row number of the RoI.", metavar="K")]]


class ExplainOptions(
    RoiOption,
    LookOptions,
    ComputeOptions,
    WatchOptions,
    total=False,
):
    """The keywords of ``explain``; ``result`` is a stored one (K, C, P_h, P_w) to check too."""

    channel: Annotated[int, Opt("--channel", LOOKING, "Which channel.", 0, metavar="C")]
    bin_index: Annotated[
        str | Size, Opt("--bin", LOOKING, "Bin: row, column.", "0,0", metavar="I,J", read=as_bin)
    ]
    result: Annotated[
        Path | ArrayLike | None,
        Opt(
            "--result",
            LOOKING,
            "A stored result to check too; exit code 1 where it equals neither operator.",
            metavar="FILE",
            outward=True,
        ),
    ]


class OneOperatorOption(TypedDict, total=False):
    """The operator that is looked at."""

    operator: Annotated[
        Operator | None,
        Opt(
            "--operator",
            LOOKING,
            "Look at this operator, which reads cells with weights.",
            shown="RoI Align, and RoI Pool beside it",
        ),
    ]


class ExplainOneOptions(ExplainOptions, OneOperatorOption, total=False):
    """The keywords of ``explain`` for one operator that reads cells with weights."""


class DrawOptions(RoiOption, ForceOption, LookOptions, OneOperatorOption, total=False):
    """The keywords of ``draw``.

    ``channel`` None shows the mean over channels; ``bin_index`` (row, column) adds a close-up of
    that bin's first sample; ``compare`` "pool,align" gives each a panel; ``image`` lies under the
    map.
    """

    channel: Annotated[
        int | None,
        Opt(
            "--channel",
            LOOKING,
            "Which channel the heat map shows.",
            metavar="C",
            shown="the mean over channels",
        ),
    ]
    bin_index: Annotated[
        str | Size | None,
        Opt(
            "--bin",
            LOOKING,
            "A close-up of this bin (row, column): one sample and its four weights.",
            metavar="I,J",
            read=as_bin,
        ),
    ]
    compare: Annotated[
        str | Sequence[str] | None,
        Opt(
            "--compare",
            LOOKING,
            "A panel for each of these, side by side, not one for both.",
            metavar="pool,align",
            read=as_names,
        ),
    ]
    image: Annotated[
        Path | None,
        Opt(
            "--image",
            LOOKING,
            "An image to put under the map; needs roicli[figures].",
            metavar="PHOTO",
            read=as_path,
            outward=True,
        ),
    ]


class ReportOptions(
    ForceOption,
    OperatorOptions,
    ReadingOptions,
    IgnoreOption,
    ExternalOption,
    ComputeOptions,
    WatchOptions,
    total=False,
):
    """The keywords of ``report``; ``sort`` is the column that ranks the worst."""

    sort: Annotated[
        str, Opt("--sort", TABLE, "What ranks the worst RoIs.", "iou", metavar="COLUMN")
    ]


class SweepOptions(
    SizeOption,
    ScaleOption,
    SamplingOptions,
    PresetOption,
    ReadingOptions,
    IgnoreOption,
    ExternalOption,
    ComputeOptions,
    total=False,
):
    """The keywords of ``sweep``; ``sample`` None measures all RoIs."""

    tolerance: Annotated[
        float,
        Opt("--tolerance", None, "Median relative L2 that a ratio may have.", 0.01, metavar="X"),
    ]
    sample: Annotated[
        int | str | None,
        Opt("--sample", None, "RoIs to measure.", 256, metavar="N|all", read=as_rows),
    ]


class MatchRowsOption(TypedDict, total=False):
    """Whether rows of a result may be in another order, or not all of them there."""

    match_rows: Annotated[
        bool,
        Opt(
            "--match-rows",
            None,
            "Rows in another order or missing are fine: take those that are the same RoI's.",
            False,
        ),
    ]


class DiagnoseOptions(
    ScaleOption, ReadingOptions, IgnoreOption, ExternalOption, MatchRowsOption, total=False
):
    """The keywords of ``diagnose``; ``sample`` None looks at all RoIs."""

    angle: Annotated[
        float | None,
        Opt("--angle", None, "Degrees that upright RoIs are turned by about their centres."),
    ]
    sample: Annotated[
        int | str | None,
        Opt(
            "--sample",
            None,
            "RoIs that decide between the best candidates.",
            256,
            metavar="N|all",
            read=as_rows,
        ),
    ]
    tolerance: Annotated[
        float | None,
        Opt(
            "--tolerance",
            None,
            "Distance within which a candidate is a match, of how the result varies.",
            metavar="X",
            shown="1e-4, or what rounding to the result's dtype may do",
        ),
    ]


class CompareOptions(MatchRowsOption, ExternalOption, total=False):
    """The keywords of ``compare``; ``worst`` RoIs and channels are listed, None for all."""

    atol: Annotated[float, Opt("--atol", None, "Absolute tolerance.", 1e-5, metavar="X")]
    rtol: Annotated[float, Opt("--rtol", None, "Tolerance relative to abs(b).", 1e-5, metavar="X")]
    stat: Annotated[
        ComparedStatistic,
        Opt(
            "--stat",
            None,
            "What must be within atol + rtol abs(b): every element, or this.",
            "elementwise",
        ),
    ]
    equal_nan: Annotated[bool, Opt("--equal-nan", None, "Two NaN are equal.", False)]
    worst: Annotated[
        int | str | None,
        Opt("--rows", None, "Worst RoIs and channels to list.", 10, metavar="N|all", read=as_rows),
    ]


class CheckOptions(
    SizeOption,
    ScaleOption,
    RatioOption,
    SamplingOptions,
    ModeOption,
    PresetOption,
    ReadingOptions,
    ExternalOption,
    DaskOption,
    total=False,
):
    """The keywords of ``check``: how to read, which operator will run, which rules, what is fine.

    The operator's options matter for the sampling grid (R16).
    """

    select: Annotated[
        str | Sequence[str] | None,
        Opt(
            "--select", RULES, "Only these rules, like R01,R15.", metavar="RULE,...", read=as_names
        ),
    ]
    ignore: Annotated[
        str | Sequence[str] | None,
        Opt("--ignore", RULES, "Not these rules.", metavar="RULE,...", read=as_names),
    ]
    rows: Annotated[int, Opt("--rows", RULES, "Rows to name in a finding.", 10, metavar="N")]
    max_outside: Annotated[
        float,
        Opt(
            "--max-outside",
            TOLERATED,
            "R05, R06: share of the RoIs that may reach outside.",
            0.0,
            metavar="SHARE",
        ),
    ]
    max_small: Annotated[
        float,
        Opt(
            "--max-small",
            TOLERATED,
            "R12: share of the RoIs that may be below a cell.",
            0.0,
            metavar="SHARE",
        ),
    ]
    max_coordinate_error: Annotated[
        float,
        Opt(
            "--max-coordinate-error",
            TOLERATED,
            "R13: pixels that the RoIs' dtype may have lost.",
            0.25,
            metavar="PX",
        ),
    ]
    max_dead: Annotated[
        float,
        Opt(
            "--max-dead",
            TOLERATED,
            "R15: share of the channels that may be dead.",
            0.0,
            metavar="SHARE",
        ),
    ]
    max_imbalance: Annotated[
        float,
        Opt(
            "--max-imbalance",
            TOLERATED,
            "R17: how many times the fewest RoIs of an image another may have.",
            20.0,
            metavar="TIMES",
        ),
    ]
    max_duplicates: Annotated[
        float,
        Opt(
            "--max-duplicates",
            TOLERATED,
            "R18: share of the RoIs that may repeat another.",
            0.0,
            metavar="SHARE",
        ),
    ]


class BenchOptions(
    OperatorOptions,
    OwnOptions,
    ReadingOptions,
    ExternalOption,
    ResourceOptions,
    DeviceOptions,
    total=False,
):
    """The keywords of ``bench``; ``providers`` take turns, ``folder`` is where results are put."""

    providers: Annotated[
        str | Sequence[str],
        Opt(
            "--providers",
            None,
            "They take turns: cpu, native, cuda.",
            "cpu",
            metavar="NAME,...",
            read=as_names,
        ),
    ]
    runs: Annotated[int, Opt("--runs", None, "Counted runs of each provider.", 7, metavar="N")]
    folder: Annotated[
        str | None,
        Opt(
            "--folder",
            None,
            "Where the result is written and removed.",
            shown="the system's folder for temporary files",
            outward=True,
        ),
    ]


class MergeOptions(ForceOption, CompressionOption, total=False):
    """The keywords of ``merge``."""

    progress: Annotated[
        Progress, PythonOnly("Told (RoIs done, RoIs in all, bytes) as it goes on.", no_progress)
    ]


class InspectOptions(ExternalOption, total=False):
    """The keywords of ``inspect``; ``stats`` reads the values, block by block."""

    stats: Annotated[
        bool, Opt("--stats", None, "Read the values too, for ranges; block by block.", False)
    ]
