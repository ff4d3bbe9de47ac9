"""``roicli errors``: the error table alone, from geometry or with the values measured."""

from typing import Annotated, Unpack

from roicli.cli.command import ProgressBar, TableRequest, finish
from roicli.cli.options import QuietTableOption, TableOptions
from roicli.core.call_options import ErrorsOptions
from roicli.core.declaration import Arg, keywords, settle

FeaturesAndRois = Annotated[
    list[str], Arg("[FEATURES] ROIS", "RoIs, and before them the features if any.")
]


class ErrorsCommand(ErrorsOptions, TableOptions, QuietTableOption, total=False):
    """The options of ``roicli errors``."""


def errors(inputs: FeaturesAndRois, **options: Unpack[ErrorsCommand]) -> None:
    """Show how far rounding moves each RoI and, with features, what it does to the values and why.

    Example: roicli errors sample_data/text_rois.npy --spatial-scale 1/8
    """
    from roicli import api
    from roicli.core.exceptions import ParameterError

    if len(inputs) > 2:
        raise ParameterError(f"{len(inputs)} inputs, expected ROIS or FEATURES ROIS")
    features, rois = inputs if len(inputs) == 2 else (None, inputs[0])
    table = settle(TableRequest, options)
    thresholds = table.thresholds(with_values=features is not None)
    with ProgressBar(options["quiet"]) as progress:
        given = keywords(
            ErrorsOptions, options, progress=progress, table_columns=table.asked(thresholds)
        )
        result = api.errors(features, rois, **given)
    finish(result, table, thresholds, options["quiet"], to_stderr=False)
