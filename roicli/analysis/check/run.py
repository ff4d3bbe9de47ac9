"""``roicli.check``: the rules over one pair of inputs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Unpack

from roicli.analysis.check.reading import CheckedInputs, read_checked_inputs
from roicli.analysis.check.records import CheckReport, Draft, Finding, Limits
from roicli.analysis.check.rules import Rule, choose_rules
from roicli.core.exceptions import ParameterError
from roicli.core.parsing import parse_names
from roicli.core.types import Array
from roicli.core.vocabulary import Mode, PresetName, SamplingGrid
from roicli.pipeline.features import FeatureArgument
from roicli.pipeline.inputs import InputOptions
from roicli.pipeline.settings import check_known, resolve_setting
from roicli.storage.limits import external_files
from roicli.storage.opening import inputs_unchanged

ROWS_SHOWN = 10


class CheckOptions(InputOptions, total=False):
    """Options of ``check``: how to read, which operator will run, which rules, how much is fine.

    The operator's options matter for the sampling grid (R16). ``select`` and ``ignore`` name rules,
    as "R07,R08" or a list. ``max_...`` are the fields of ``Limits``. ``rows`` is how many rows a
    finding lists. ``dask`` is a scheduler's address, or
    "local:N", whose workers read the maps.
    """

    output_size: int | str | tuple[int, int] | None
    sampling_ratio: int | None
    aligned: bool | None
    mode: Mode | None
    sampling_grid: SamplingGrid | None
    preset: PresetName | None
    select: str | Sequence[str] | None
    ignore: str | Sequence[str] | None
    max_outside: float
    max_small: float
    max_duplicates: float
    max_dead: float
    max_coordinate_error: float
    max_imbalance: float
    rows: int
    dask: str | None


@inputs_unchanged()
def check(
    features: FeatureArgument | Sequence[Array],
    rois: FeatureArgument,
    **options: Unpack[CheckOptions],
) -> CheckReport:
    """Look at maps (N, C, H, W) and RoIs (K, 5) before any model runs, and say what is wrong.

    Arguments as ``align``. Maps are read one image at a time, and only if a rule that was chosen
    looks at their values. What ``align`` would refuse is a finding here; InputError is raised where
    something cannot be read at all, ParameterError for an option.
    """
    check_known("check", options, CheckOptions)
    rules = choose_rules(_names(options.get("select")), _names(options.get("ignore")))
    given: Mapping[str, Any] = options
    limits = Limits(**{f.name: given[f.name] for f in fields(Limits) if f.name in given})
    shown = options.get("rows", ROWS_SHOWN)
    if shown < 0:
        raise ParameterError(f"rows is {shown}, expected a number from 0")
    spec = resolve_setting(options, "align").align
    with external_files(options.get("allow_external", False)), contextlib.ExitStack() as stack:
        measure = None
        if options.get("dask") is not None:
            from roicli.analysis.check.on_cluster import plan_measuring

            measure = plan_measuring(features, str(options["dask"]), stack)
        inputs, maps, table = read_checked_inputs(features, rois, options, spec, stack, measure)
        findings: list[Finding] = []
        skipped: dict[str, str] = {}
        for rule in rules:
            reason = rule.lacks(inputs)
            if reason:
                skipped[rule.id] = reason
            else:
                findings += _run(rule, inputs, limits, shown)
    ran = tuple(rule.id for rule in rules if rule.id not in skipped)
    return CheckReport(maps, table, ran, skipped, tuple(findings))


def _run(rule: Rule, inputs: CheckedInputs, limits: Limits, shown: int) -> list[Finding]:
    return [_name(rule, draft, shown) for draft in rule.find(inputs, limits)]


def _name(rule: Rule, draft: Draft, shown: int) -> Finding:
    return Finding(
        rule.id, rule.name, rule.severity, draft.count, draft.unit, tuple(draft.rows[:shown]),
        draft.where, draft.message, draft.advice,
    )  # fmt: skip


def _names(option: Any) -> tuple[str, ...] | None:
    if option is None:
        return None
    names = parse_names(option) if isinstance(option, str) else tuple(option)
    return tuple(name.upper() for name in names)
