"""A lane whose trials cost nothing: all that a sweep does around training, and no training."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.metrics.named import EVAL_LOSS
from raytune_ft.metrics.report import METRICS
from raytune_ft.paths import checkpoint_name
from raytune_ft.training.lane.orders import Drop, GoOn, LaneOrders, Order, Quit, Start
from raytune_ft.training.metrics_log import append_metrics
from raytune_ft.training.outcome import Outcome, OutcomeKind
from raytune_ft.training.spec import TrialSpec

IDLE_S = 20.0


def run_lane(experiment: Experiment, client: LaneOrders | None, *, report_ready: Callable[[], None]) -> None:
    """Stands in for `raytune_ft.training.lane.loop.run_lane`; each report is a loss that follows from the settings."""
    report_ready()
    if client is None:
        return
    trials: dict[str, tuple[TrialSpec, list[int]]] = {}
    while True:
        for order in client.orders(max(0, 1 - len(trials)), IDLE_S):
            if isinstance(order, Quit):
                return
            _follow(order, client, trials)


def _follow(order: Order, client: LaneOrders, trials: dict[str, tuple[TrialSpec, list[int]]]) -> None:
    match order:
        case Start(spec=spec):
            spec.directory.checkpoints.mkdir(parents=True, exist_ok=True)
            trials[spec.trial_id] = (spec, list(spec.experiment.report_steps()))
            _next(spec.trial_id, client, trials)
        case GoOn(trial=name):
            _next(name, client, trials)
        case Drop(trial=name):
            trials.pop(name, None)


def _next(name: str, client: LaneOrders, trials: dict[str, tuple[TrialSpec, list[int]]]) -> None:
    if name not in trials:
        return
    spec, left = trials[name]
    if not left:
        del trials[name]
        last = spec.experiment.train.max_steps
        outcome = Outcome(OutcomeKind.completed, f"ran all {last} steps", last, _loss(spec, last), float(last))
        outcome.write(spec.directory)
        client.ended(name, outcome)
        return
    report = _report(spec, left.pop(0))
    (spec.directory.checkpoints / report["checkpoint"]).mkdir(exist_ok=True)
    append_metrics(spec.directory.metrics, report)
    client.report(name, report)


def _report(spec: TrialSpec, step: int) -> dict[str, Any]:
    loss = _loss(spec, step)
    return {
        "step": step,
        "samples": step,
        "tokens": step,
        "train_loss": loss,
        METRICS: {EVAL_LOSS: loss},
        "seconds": float(step),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "checkpoint": checkpoint_name(step),
    }


def _loss(spec: TrialSpec, step: int) -> float:
    """Best at a learning rate of 1e-3 and the greatest rank."""
    rate, rank = spec.experiment.train.learning_rate, spec.experiment.method.r
    return (math.log10(rate) + 3.0) ** 2 + 1.0 / rank + 1.0 / step
