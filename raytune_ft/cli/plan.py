"""Verb `plan`: shows what a sweep would do, how long it would take and what it would cost."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raytune_ft.cli.experiment import Overrides
from raytune_ft.cli.output import emit, out, say

if TYPE_CHECKING:
    from raytune_ft.search.planning.bounds import Bounds
    from raytune_ft.search.planning.memory.weights import WorkerMemory
    from raytune_ft.search.planning.plan import Plan
    from raytune_ft.search.planning.span import Span


def plan(
    experiment: Annotated[Path, typer.Argument(help="Experiment file.")],
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a sweep would do and need: rungs, tokens, memory, hours, cost; start nothing."""
    from raytune_ft.api import check_inputs
    from raytune_ft.config.load import load_experiment
    from raytune_ft.promotion.gates_forecast import proof_of, proof_words, too_few_rows
    from raytune_ft.search.planning.plan import plan_here

    loaded = load_experiment(experiment, overrides or ())
    test_rows = check_inputs(loaded, say).rows.get("test")
    proof, too_few = proof_of(loaded, test_rows), too_few_rows(loaded, test_rows)
    planned = plan_here(loaded)
    for warning in (*planned.warnings, *([too_few] if too_few else [])):
        say(f"warning: {warning}")
    whole = {**asdict(planned), "proof": asdict(proof) if proof else None}
    emit(whole, as_json, lambda: _print(planned, proof_words(proof) if proof else None))


def _print(plan: Plan, proof: str | None) -> None:
    out(f"{plan.experiment}: {_count(plan.trials, 'trial')}, {plan.max_concurrent} at a time")
    out(f"runner: {plan.runner} ({plan.runner_reason})")
    for rung in plan.rungs:
        halved = rung.trials.least != rung.trials.most and rung.halving < plan.trials
        about = f", {rung.halving} by plain halving" if halved else ""
        out(f"  to step {rung.step}: {_range(rung.trials)} of {_count(plan.trials, 'trial')}{about}")
    halved = plan.halving_steps is not None and plan.halving_steps < plan.steps.most
    about = f", {plan.halving_steps:,} by plain halving" if halved else ""
    out(f"optimizer steps: {_range(plan.steps)}{about}")
    how = "counted" if plan.tokens_counted else "from a sample"
    tokens = f", about {plan.tokens_per_row:g} tokens each ({how})" if plan.tokens_per_row else ""
    out(f"samples: {_range(plan.samples)}{tokens}")
    out(f"tokens: {_span('tokens', plan.work.tokens)}; of a trial to its end {_span('tokens', plan.work.trial_tokens)}")
    out(f"worker groups started: {_groups(plan)}")
    out(f"memory of a worker: {_memory(plan.memory)}")
    if plan.peak:
        out(f"  at its peak: {_peak(plan)}")
    if plan.disk:
        free = f"{plan.disk.directory} has {plan.disk.free:,.0f} MiB free"
        stays = f"{_span('memory_mib', plan.disk.stays)} of {_count(plan.disk.trials, 'trial')} stay when it has ended"
        out(f"disk: {_span('memory_mib', plan.disk.checkpoints)} of checkpoints at once, {stays}; {free}")
    out(f"time: {_time(plan)}")
    if plan.device_hours:
        out(f"device hours: {_span('device_hours', plan.device_hours)}")
    if plan.cost:
        out(f"cost: {_span('cost', plan.cost)}")
    for line in _budget(plan):
        out(line)
    if proof:
        out(f"proof: {proof}")


def _span(name: str, span: Span | None) -> str:
    from raytune_ft.reporting.plan_truth import span_words

    return "unknown" if span is None else span_words(name, span)


def _peak(plan: Plan) -> str:
    from raytune_ft.reporting.plan_truth import amount

    assert plan.peak is not None
    peak, room = plan.peak, plan.room
    packed = f" of {peak.packed} packed trials" if peak.packed > 1 else ""
    parts = (f"process {peak.process:,.0f}", f"activations{packed} {peak.activations:,.0f}")
    line = f"{_span('memory_mib', peak.whole)}, with {' and '.join(parts)} MiB"
    if room is None:
        return f"{line}; no such device is here to compare it with"
    fits = f"{room.device} has {amount('memory_mib', room.total)}, {amount('memory_mib', room.free)} of it free"
    return f"{line}; {fits}"


def _time(plan: Plan) -> str:
    if plan.hours is None or plan.speed is None:
        return "unknown, as " + (
            "there is no GPU here that it knows" if plan.speed is None else "rows can't be counted"
        )
    return f"{_span('hours', plan.hours)}, for {plan.speed.device}; the sweep measures it with its first report"


def _budget(plan: Plan) -> list[str]:
    return [f"budget: {limit}" for limit in plan.budget]


def _groups(plan: Plan) -> str:
    from raytune_ft.reporting.wording import duration

    if plan.runner == "isolated":
        return f"{plan.worker_groups}, one a trial"
    saved = duration(plan.saved_seconds)
    gain = f"; saves about {saved} as measured on {plan.saving_measured_on}" if plan.saved_seconds else ""
    known = "" if plan.fitting else " if so many fit where it runs"
    return f"at most {plan.worker_groups}{known}, isolated trials would start {plan.isolated_worker_groups}{gain}"


def _memory(memory: WorkerMemory | None) -> str:
    if memory is None:
        return "unknown, there is no base, or its weights are not on this machine"
    weights = f"({memory.adapter_parameters:,} weights)" if memory.adapter_parameters is not None else ""
    if memory.full:
        parts = [f"model {_bytes(memory.base_bytes)} {weights}"]
        parts += [f"copy in 16 bits {_bytes(memory.adapter_bytes)}"] if memory.adapter_bytes else []
    else:
        parts = [f"base {_bytes(memory.base_bytes)}{' (once for the lanes of a node)' if memory.base_shared else ''}"]
        parts += [f"adapter {_bytes(memory.adapter_bytes)} {weights}"] if weights else []
    if weights:
        parts.append(f"gradient {_bytes(memory.gradient_bytes)}")
        where = " on the host" if memory.optimizer_on_host else ""
        parts.append(f"optimizer {_bytes(memory.optimizer_bytes)}{where}")
    return ", ".join(parts)


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
