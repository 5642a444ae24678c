"""Writes `plan.json`: what a sweep was expected to take before it began, and what was forecast after its first rung.

Reports that compare plan and truth read it; the first forecast stays, so that it can be judged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.events.kinds import Event, Reported, Started
from raytune_ft.execution.devices import Decision
from raytune_ft.paths import RunDirectory, read_json, write_json
from raytune_ft.search.budget.spent import Meter
from raytune_ft.search.planning.forecast import device_hours, hours, measured_paces
from raytune_ft.search.planning.plan import Plan, cost_of, plan_sweep
from raytune_ft.search.planning.prices import devices_of_group
from raytune_ft.search.planning.span import Span
from raytune_ft.search.planning.speed import slowest
from raytune_ft.search.planning.work import Work

SCHEMA = 1


class PlanLog:
    """Writes `plan.json`, in the driver.

    Args:
        experiment: The experiment, with a `search` section.
        run: The run directory; its data is prepared when `plan` is called.
        meter: Counts what the study uses.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self, experiment: Experiment, run: RunDirectory, meter: Meter, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._experiment, self._run, self._meter, self._clock = experiment, run, meter, clock
        self._plan: Plan | None = None
        self._groups = 0
        self._started: dict[str, float] = {}

    def plan(self, decision: Decision, groups: int = 0) -> None:
        """Writes the plan, and waits for the first report to forecast from, unless an earlier driver has done that.

        Args:
            decision: The study's number type and devices.
            groups: Number of worker groups that all trials share; 0 where each trial has its own.
        """
        if self._run.plan.is_file() and read_json(self._run.plan)["after_first_rung"]:
            return
        self._experiment = decision.experiment
        self._plan = plan_sweep(self._experiment, slowest(decision.devices, self._experiment), groups or None)
        self._write(None)

    def shared_groups(self, count: int) -> None:
        """Sets the number of worker groups that all trials share; 0 where each trial has its own."""
        self._groups = count

    def __call__(self, event: Event) -> None:
        match event:
            case Started(trial):
                self.started(trial)
            case Reported(trial, report):
                self.reported(trial, report)

    def started(self, trial: str) -> None:
        """Notes when a trial starts, with its own worker group if it has one."""
        self._started.setdefault(trial, self._clock())

    def reported(self, trial: str, report: Mapping[str, Any]) -> None:
        """Writes a forecast from the first report that has the numbers for it."""
        if self._plan is None or "step" not in report or self._plan.work.tokens is None:
            return
        plan, search = self._plan, self._experiment.search
        at_once = min(search.max_concurrent, search.trials) if search else 1
        if self._groups and plan.peak:
            at_once = min(at_once, self._groups * plan.peak.packed)  # other trials wait
        own = self._clock() - self._started[trial] if not self._groups and trial in self._started else None
        groups, evaluated = self._groups or at_once, plan.work.evaluated_tokens
        paces = measured_paces(
            report,
            round(evaluated.likely / plan.work.reports.likely) if evaluated else 0,
            at_once,
            groups,
            elapsed_s=3600.0 * self._meter.spent.hours,
            since_start_s=own,
        )
        work = plan.work
        whole = hours(work, paces) if paces else None
        if whole is None:
            return
        held = device_hours(whole, groups, devices_of_group(self._experiment.resources))
        self._write(
            {
                "trial": trial,
                "step": report["step"],
                "seconds": report["seconds"],
                **_numbers(work, whole, held, self._cost(held), None),
            }
        )
        self._plan = None

    def _cost(self, held: Span) -> Span | None:
        return held * self._meter.price if self._meter.price is not None else cost_of(self._experiment, held)

    def _write(self, forecast: dict[str, Any] | None) -> None:
        plan = self._plan
        assert plan is not None
        peak = plan.peak.whole if plan.peak else None
        write_json(
            self._run.plan,
            {
                "schema": SCHEMA,
                "experiment": plan.experiment,
                "runner": plan.runner,
                "device": plan.speed.device if plan.speed else None,
                "dtype": plan.dtype,
                "measured_gflops": plan.measured_gflops,
                "planned": _numbers(plan.work, plan.hours, plan.device_hours, plan.cost, peak),
                "memory_parts_mib": asdict(plan.peak) if plan.peak else None,
                "after_first_rung": forecast,
            },
        )


def _numbers(
    work: Work, whole: Span | None, held: Span | None, cost: Span | None, memory_mib: Span | None
) -> dict[str, Any]:
    spans = {
        "memory_mib": memory_mib,
        "hours": whole,
        "device_hours": held,
        "tokens": work.tokens.rounded(0) if work.tokens else None,
        "cost": cost,
    }
    return {name: asdict(span) if span else None for name, span in spans.items()}
