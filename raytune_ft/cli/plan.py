"""Verb `plan`: what a sweep would do, take and cost."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raytune_ft.cli.experiment import Overrides
from raytune_ft.cli.output import emit, out, say

if TYPE_CHECKING:
    from raytune_ft.search.bounds import Bounds
    from raytune_ft.search.memory import WorkerMemory
    from raytune_ft.search.plan import Plan


def plan(
    experiment: Annotated[Path, typer.Argument(help="Experiment file.")],
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a sweep would do: runner, rungs, steps, worker groups, memory; start nothing."""
    from raytune_ft.api import check_inputs
    from raytune_ft.config.load import load_experiment
    from raytune_ft.search.plan import plan_sweep

    loaded = load_experiment(experiment, overrides or ())
    check_inputs(loaded, say)
    planned = plan_sweep(loaded)
    for warning in planned.warnings:
        say(f"warning: {warning}")
    emit(asdict(planned), as_json, lambda: _print(planned))


def _print(plan: Plan) -> None:
    out(f"{plan.experiment}: {_count(plan.trials, 'trial')}, {plan.max_concurrent} at a time")
    out(f"runner: {plan.runner} ({plan.runner_reason})")
    for rung in plan.rungs:
        about = f", {rung.halving} by plain halving" if rung.trials.least != rung.trials.most else ""
        out(f"  to step {rung.step}: {_range(rung.trials)} of {_count(plan.trials, 'trial')}{about}")
    about = f", {plan.halving_steps:,} by plain halving" if plan.halving_steps and len(plan.rungs) > 1 else ""
    out(f"optimizer steps: {_range(plan.steps)}{about}")
    tokens = f", about {plan.tokens_per_row:g} tokens each" if plan.tokens_per_row else ""
    out(f"samples: {_range(plan.samples)}{tokens}")
    out(f"worker groups started: {_groups(plan)}")
    out(f"memory of a worker: {_memory(plan.memory)}")


def _groups(plan: Plan) -> str:
    from raytune_ft.reporting.wording import duration

    if plan.runner == "isolated":
        return f"{plan.worker_groups}, one a trial"
    saved = duration(plan.saved_seconds)
    gain = f"; saves about {saved} as measured on {plan.saving_measured_on}" if plan.saved_seconds else ""
    return f"at most {plan.worker_groups}, isolated trials would start {plan.isolated_worker_groups}{gain}"


def _memory(memory: WorkerMemory | None) -> str:
    if memory is None:
        return "unknown, the base's weights are not on this machine"
    parts = [f"base {_bytes(memory.base_bytes)}{' (once for the lanes of a node)' if memory.base_shared else ''}"]
    if memory.adapter_parameters is not None:
        parts.append(f"adapter {_bytes(memory.adapter_bytes)} ({memory.adapter_parameters:,} weights)")
        parts.append(f"gradient {_bytes(memory.gradient_bytes)}")
        where = " on the host" if memory.optimizer_on_host else ""
        parts.append(f"optimizer {_bytes(memory.optimizer_bytes)}{where}")
    return ", ".join(parts) + "; activations come on top"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _range(bounds: Bounds) -> str:
    return f"{bounds.least:,}" if bounds.least == bounds.most else f"{bounds.least:,} to {bounds.most:,}"


def _bytes(count: int | None) -> str:
    value = float(count or 0)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit in ("bytes", "KiB") else f"{value:.1f} {unit}"
