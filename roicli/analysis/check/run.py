"""``roicli.check``: the rules over one pair of inputs."""

from __future__ import annotations

import contextlib
from dataclasses import fields
from typing import Unpack

from roicli.analysis.check.inputs import CheckedInputs, read_checked_inputs
from roicli.analysis.check.records import CheckReport, Finding, Limits
from roicli.analysis.check.rules import Rule, choose_rules
from roicli.core.declaration import check_known, record, settle
from roicli.core.exceptions import ParameterError
from roicli.core.look_options import CheckOptions
from roicli.pipeline.draft import Draft
from roicli.pipeline.features import FeatureArgument
from roicli.pipeline.request import Operation, Reading
from roicli.pipeline.settings import resolve_setting, turned_by_preset
from roicli.storage.limits import external_files
from roicli.storage.open import inputs_unchanged


@record(CheckOptions)
class CheckRequest(Reading, Operation):
    """What was asked of ``check``."""

    select: tuple[str, ...] | None
    ignore: tuple[str, ...] | None
    rows: int
    dask: str | None

    def __post_init__(self) -> None:
        if self.rows < 0:
            raise ParameterError(f"rows is {self.rows}, expected a number from 0")


@inputs_unchanged()
def check(
    features: FeatureArgument,
    rois: FeatureArgument,
    **options: Unpack[CheckOptions],
) -> CheckReport:
    """Look at maps (N, C, H, W) and RoIs (K, 5) before any model runs, and say what is wrong.

    Arguments as ``align``. Maps are read one image at a time, and only if a rule that was chosen
    looks at their values. What ``align`` would refuse is a finding here; InputError is raised where
    something cannot be read at all, ParameterError for an option.
    """
    check_known("check", options, CheckOptions)
    request = settle(CheckRequest, options)
    rules = choose_rules(_upper(request.select), _upper(request.ignore))
    limits = Limits(**{f.name: getattr(request, f.name) for f in fields(Limits)})
    unit = turned_by_preset(request)
    spec = resolve_setting(request, "align" if unit is None else "rotated-align").align
    reading = request if unit is None else request.turned_in(unit)
    with external_files(request.allow_external), contextlib.ExitStack() as stack:
        measure = None
        if request.dask is not None:
            from roicli.analysis.check.on_cluster import plan_measuring

            measure = plan_measuring(features, request.dask, request.of_maps, stack)
        inputs, maps, table = read_checked_inputs(features, rois, reading, spec, stack, measure)
        findings: list[Finding] = []
        skipped: dict[str, str] = {}
        for rule in rules:
            reason = rule.lacks(inputs)
            if reason:
                skipped[rule.id] = reason
            else:
                drafts = rule.find(inputs, limits)
                findings += [_name(rule, draft, inputs, request.rows) for draft in drafts]
    ran = tuple(rule.id for rule in rules if rule.id not in skipped)
    return CheckReport(maps, table, ran, skipped, tuple(findings))


def _name(rule: Rule, draft: Draft, inputs: CheckedInputs, shown: int) -> Finding:
    rows = [int(row) for row in draft.rows[:shown]]
    if draft.unit == "RoIs" and inputs.rois is not None:
        rows = [inputs.rois.table.number(row) for row in rows]
    return Finding(
        rule.id, rule.name, draft.severity or rule.severity, draft.count, draft.unit,
        tuple(rows), draft.where, draft.message, draft.advice,
    )  # fmt: skip


def _upper(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(name.upper() for name in names)
