"""The main loop of a lane: it loads the base once, then trains the trials that its orders name."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.training import Lane
from raytune_ft.data.arrow_rows import ArrowRows
from raytune_ft.data.prepared import open_prepared
from raytune_ft.errors import RaytuneError
from raytune_ft.hardware.out_of_memory import out_of_memory_reason
from raytune_ft.objectives.rooms import room
from raytune_ft.training.base_loss import keep_base_loss, read_base_loss
from raytune_ft.training.lane.checkpoint import Beginning, find_beginning
from raytune_ft.training.lane.evaluate import evaluate, evaluate_base
from raytune_ft.training.lane.model.base import Base, load_lane_base
from raytune_ft.training.lane.orders import Drop, GoOn, LaneOrders, Order, Quit, Start
from raytune_ft.training.lane.packing.pack_size import PackSize
from raytune_ft.training.lane.packing.together import step_together
from raytune_ft.training.lane.ranks import Ranks
from raytune_ft.training.lane.step import Stepper
from raytune_ft.training.lane.trial import RunningTrial, Splits
from raytune_ft.training.outcome import Outcome, OutcomeKind

IDLE_S = 20.0  # how long the first rank waits for an order before it tells the others that there is none
BAD_INPUT = (OSError, ValueError, KeyError, RaytuneError)  # errors that fail the trial, not its lane


def run_lane(experiment: Experiment, client: LaneOrders | None, *, report_ready: Callable[[], None]) -> None:
    """Trains trials until the order `Quit` comes; every rank of a worker group calls it.

    Args:
        experiment: The study's experiment; base, dtype, resources and runner are equal for all trials.
        client: Gives the first rank its orders; None on the other ranks.
        report_ready: Called on the first rank when the base is loaded.
    """
    ranks = Ranks.of_process_group()
    settings = experiment.runner if isinstance(experiment.runner, Lane) else Lane()
    device = "cuda" if experiment.resources.gpus_per_worker else "cpu"
    ranks.sum(torch.zeros(1, device=device))  # makes NCCL allocate its memory before a step takes all the rest
    several = ranks.size * (settings.lanes or 1) > 1  # otherwise no other process would share a copy
    base = load_lane_base(experiment, settings.step, share=settings.share_base, may_copy=several, device=device)
    lane = LaneLoop(base, client, ranks, settings, experiment)
    if ranks.rank == 0:
        report_ready()
    lane.run()


class LaneLoop:
    """Holds the trials of a lane, and takes step after step for those that may train.

    Args:
        base: The frozen model.
        client: Gives the first rank its orders; None on the other ranks.
        ranks: The lane's ranks.
        settings: The settings of the lane runner.
        experiment: The study's experiment.
    """

    def __init__(
        self, base: Base, client: LaneOrders | None, ranks: Ranks, settings: Lane, experiment: Experiment
    ) -> None:
        self._base, self._client, self._ranks = base, client, ranks
        loss = room(experiment.objective).lane_loss()
        assert loss is not None  # the runner is chosen by that
        self._stepper = Stepper(base, settings.step, loss)
        self._trials: dict[str, RunningTrial] = {}
        self._splits: tuple[Path, Splits] | None = None
        self._base_loss: tuple[Path, float] | None = None
        most = experiment.search.max_concurrent if experiment.search else 1
        self._pack = PackSize(settings.packed, most, base.device, ranks)

    def run(self) -> None:
        """Follows orders and trains until the order `Quit` comes."""
        while True:
            for order in self._orders():
                if isinstance(order, Quit):
                    return
                self._follow(order)
            if training := [trial for trial in self._trials.values() if not trial.waiting]:
                self._step(training[: self._pack.limit])

    def _orders(self) -> list[Order]:
        idle = all(trial.waiting for trial in self._trials.values())
        orders: list[Order] = []
        if self._client is not None:
            orders = self._client.orders(self._pack.limit - len(self._trials), IDLE_S if idle else 0.0)
        shared: list[Order] = self._ranks.share(orders)
        return shared

    def _follow(self, order: Order) -> None:
        match order:
            case Start():
                self._start(order)
            case GoOn(trial=name):
                if trial := self._trials.get(name):
                    trial.goes_on()
            case Drop(trial=name):
                if trial := self._trials.pop(name, None):
                    trial.dropped()

    def _start(self, order: Start) -> None:
        name, directory = order.spec.trial_id, order.spec.directory
        if name in self._trials:
            return
        # The first rank reads it for all, because their views of a shared disk may differ for a while.
        outcome = self._ranks.share(Outcome.read(directory) if self._ranks.rank == 0 else None)
        if outcome is not None:  # it had ended just before its previous lane died
            self._tell_end(name, outcome)
            return
        trial, no_memory = None, None
        beginning, reason = self._ranks.share(_beginning(order) if self._ranks.rank == 0 else None)
        try:
            if reason is None:
                splits = self._open(order.spec.data)
                trial = RunningTrial(order.spec, self._base, splits, self._ranks, beginning)
        except BAD_INPUT as error:
            reason = _words(error)
        except (RuntimeError, MemoryError) as error:
            no_memory = out_of_memory_reason(error)
            if no_memory is None:
                raise
        no_memory, reason = self._ranks.agree(no_memory), self._ranks.agree(reason)
        if trial is not None and not (no_memory or reason):
            no_memory = self._hold_against_base(trial)
        if trial is None or no_memory or reason:
            kind = OutcomeKind.out_of_memory if no_memory else OutcomeKind.failed
            outcome = Outcome(kind, no_memory or reason or "")
            if self._ranks.rank == 0:
                with contextlib.suppress(OSError):  # the disk may be full; the scheduler is told in any case
                    outcome.write(directory)
            self._tell_end(name, outcome)
            return
        self._trials[name] = trial
        self._pack.begins(trial.tokens_per_pass)
        if trial.step in trial.report_steps:  # restored; the scheduler may not have heard of that step
            self._wait_for_decision(trial, trial.last_report)

    def _open(self, data: Path) -> Splits:
        if self._splits is None or self._splits[0] != data:
            prepared = open_prepared(data)
            train, validation = prepared.split("train"), prepared.split("validation")
            self._splits = (data, Splits(ArrowRows(train), ArrowRows(validation)))
        return self._splits[1]

    def _hold_against_base(self, trial: RunningTrial) -> str | None:
        """Gives the trial's guard the base's loss, measured if unknown; returns the reason if memory runs out."""
        spec, first = trial.spec, self._ranks.rank == 0
        if self._base_loss is None or self._base_loss[0] != spec.data:
            found = self._ranks.share(read_base_loss(spec) if first else None)
            if found is None:
                found = evaluate_base(self._stepper, trial, self._ranks)
                if isinstance(found, str):
                    return found
                found = self._ranks.share(keep_base_loss(spec, found) if first else None)
            self._base_loss = (spec.data, found)
        trial.held_against(self._base_loss[1])
        return None

    def _step(self, trials: list[RunningTrial]) -> None:
        """Takes one optimizer step of each trial, and reports those that have reached a report step."""
        began = time.perf_counter()
        step = step_together(self._stepper, trials, self._ranks)
        if step.fit:
            self._pack.measured(len(trials), step.tokens, time.perf_counter() - began)
        else:
            self._pack.does_not_fit()
        for trial, loss in zip(trials, step.losses, strict=True):
            if isinstance(loss, str):
                self._end(trial, OutcomeKind.out_of_memory, loss)
                continue
            diverged = trial.take_step(loss)
            if diverged is not None:
                self._diverged(trial, None, diverged)
            elif trial.step in trial.report_steps:
                self._report(trial)

    def _report(self, trial: RunningTrial) -> None:
        began = time.perf_counter()
        loss = evaluate(self._stepper, trial, self._ranks)
        trial.eval_seconds += time.perf_counter() - began
        if isinstance(loss, str):
            self._end(trial, OutcomeKind.out_of_memory, loss)
            return
        if diverged := trial.diverged(loss):
            self._diverged(trial, loss, diverged)
            return
        if not self._in_touch():
            return
        report = trial.report(loss, whole=True)
        if no_room := self._ranks.agree(trial.save(report)):
            self._end(trial, OutcomeKind.failed, no_room)
            return
        self._wait_for_decision(trial, report)

    def _wait_for_decision(self, trial: RunningTrial, report: dict[str, Any]) -> None:
        if self._client is not None:
            self._client.report(trial.name, report)
        trial.waits()
        if trial.done:
            self._end(trial, OutcomeKind.completed, f"ran all {trial.step} steps")

    def _diverged(self, trial: RunningTrial, loss: float | None, reason: str) -> None:
        if self._in_touch():
            trial.log_diverged(trial.report(loss, whole=False))
        self._end(trial, OutcomeKind.diverged, reason)

    def _in_touch(self) -> bool:
        """Tells whether the trials are still this lane's; if not, the next order is `Quit`."""
        touched: bool = self._ranks.share(self._client.in_touch() if self._client is not None else True)
        return touched

    def _end(self, trial: RunningTrial, kind: OutcomeKind, reason: str) -> None:
        if not self._in_touch():
            return
        del self._trials[trial.name]
        self._tell_end(trial.name, trial.end(kind, reason))
        if kind is OutcomeKind.out_of_memory:
            gc.collect()
            if self._base.device != "cpu":
                torch.cuda.empty_cache()

    def _tell_end(self, name: str, outcome: Outcome) -> None:
        if self._client is not None:
            self._client.ended(name, outcome)


def _beginning(order: Start) -> tuple[Beginning | None, str | None]:
    """Returns the checkpoint that the trial goes on from, or the reason why it can't.

    Only the first rank calls it, because checkpoints may change meanwhile.
    """
    try:
        return find_beginning(order.spec.directory.checkpoints, order.copy_from), None
    except BAD_INPUT as error:
        return None, _words(error)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
