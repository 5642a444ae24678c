"""One trial on a lane: its adapter, its optimizer, its position in the data, and its reports."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raytune_ft.data.arrow_rows import ArrowRows
from raytune_ft.methods.weights.adapter_size import safetensors_mib
from raytune_ft.metrics.report import METRICS, value_in
from raytune_ft.paths import checkpoint_name, write_json
from raytune_ft.training.guards import DivergenceGuard, finite
from raytune_ft.training.lane.checkpoint import Beginning, Checkpoint, keep_only, write_checkpoint
from raytune_ft.training.lane.loss_scale import LossScale
from raytune_ft.training.lane.model.base import Base
from raytune_ft.training.lane.model.peft_config import peft_config
from raytune_ft.training.lane.optimizer import AdapterOptimizer
from raytune_ft.training.lane.packing.order import DataOrder
from raytune_ft.training.lane.ranks import Ranks
from raytune_ft.training.lane.step import Share
from raytune_ft.training.metrics_log import append_metrics, read_metrics, write_metrics
from raytune_ft.training.outcome import Outcome, OutcomeKind
from raytune_ft.training.peak_memory import peak_memory_mib
from raytune_ft.training.progress import ProgressWriter
from raytune_ft.training.spec import TrialSpec
from raytune_ft.training.steady_clock import steady_stamp, steady_time

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Splits:
    """The train and validation rows, which all trials of a study share."""

    train: ArrowRows
    validation: ArrowRows


class RunningTrial:
    """A trial that a lane trains; each rank holds one, in the same state.

    Args:
        spec: The trial's specification.
        base: The lane's base model.
        splits: The study's rows.
        ranks: The lane's ranks.
        beginning: The checkpoint to go on from, equal on every rank; None starts from scratch.

    Raises:
        ValueError: The base has no such target modules, or the checkpoint is of another adapter.
    """

    def __init__(self, spec: TrialSpec, base: Base, splits: Splits, ranks: Ranks, beginning: Beginning | None) -> None:
        self.spec, self._ranks, self.splits = spec, ranks, splits
        self.adapter = base.adapter(spec.experiment)
        self._adapter_mib = safetensors_mib(self.adapter.shapes())
        self.optimizer = AdapterOptimizer(self.adapter, spec.experiment, ranks)
        self.order = DataOrder.of(spec.experiment, len(splits.train), ranks.size)
        objective = spec.experiment.objective
        self._metric = objective.reports[0].name  # the mean of the loss that a lane trains by
        self.guard = DivergenceGuard(spec.experiment.train.divergence_factor, objective.diverges_by)
        self._loss_scale = LossScale.of(spec.experiment.train.number_type)
        self.report_steps = frozenset(spec.experiment.report_steps())
        self.step = 0
        self.waiting = False  # for the scheduler's decision
        self._value: float | None = None  # of the leading metric, at the last report
        self.eval_seconds = 0.0  # in this process
        self._device = base.device
        self.last_report: dict[str, Any] = {}
        self._reports: list[dict[str, Any]] = []
        self._losses: list[float] = []
        self._tokens = 0
        self._times = {"taken": steady_time()}
        self._step_began = self._times["taken"]
        self._seconds_before = 0.0
        self._began = time.monotonic()
        self._restore(beginning)
        self._told_tokens = self._tokens
        self.progress = ProgressWriter(spec.directory.progress, sorted(self.report_steps)) if not ranks.rank else None
        if self.progress:
            self.progress.begins(self.step)

    @property
    def name(self) -> str:
        return self.spec.trial_id

    @property
    def done(self) -> bool:
        """Whether all steps have been taken."""
        return self.step >= self.spec.experiment.train.max_steps

    @property
    def tokens_per_pass(self) -> float:
        """Mean number of tokens of a forward pass on one rank."""
        return float(self.splits.train.lengths.mean()) * self.spec.experiment.train.per_device_train_batch_size

    @property
    def seconds(self) -> float:
        """Seconds since the trial's training began, without the time between a stop and a restart."""
        return self._seconds_before + time.monotonic() - self._began

    def diverged(self, loss: float) -> str | None:
        """Returns the reason to stop after an evaluation, or None."""
        return self.guard.evaluated(self.step, {self._metric: loss})

    def held_against(self, base_loss: float) -> None:
        """Sets the base's validation loss for the guard; measuring it does not count as the trial's time."""
        self.guard.base_loss = base_loss
        self._began = time.monotonic()

    def waits(self) -> None:
        """Notes that the trial has reported and waits for the scheduler's decision."""
        self.waiting = True
        if self.progress:
            self.progress.waits(self.step)

    def goes_on(self) -> None:
        """Notes that the scheduler lets the trial train past its last report."""
        self.waiting = False
        if self.progress:
            self.progress.begins(self.step)

    def shares(self) -> list[Share]:
        """Returns this rank's part of the next step, with one share for each forward pass."""
        self._step_began = steady_time()
        workers = self.order.step(self.step)
        answers = sum(int(self.splits.train.answers[row]) for passes in workers for rows in passes for row in rows)
        weight = self._loss_scale.factor / answers
        mine = workers[self._ranks.rank]
        passes = self.spec.experiment.train.gradient_accumulation_steps  # an epoch's last step may have fewer
        draw = self.step * passes * self._ranks.size + self._ranks.rank
        return [
            Share(self.adapter, [self.splits.train[row] for row in rows], weight, draw + i * self._ranks.size)
            for i, rows in enumerate(mine)
        ]

    def take_step(self, loss: float) -> str | None:
        """Takes an optimizer step with the adapter's gradient.

        Args:
            loss: The step's loss over all ranks, multiplied by the loss scale as the shares are.

        Returns:
            The reason why the trial diverged, or None.
        """
        if "first_step" not in self._times:
            self._times["first_step"] = self._step_began
        scale = self._loss_scale
        loss /= scale.factor
        reason = self.guard.train_loss(self.step + 1, loss)
        stepped = self.optimizer.step(self.step, scale.factor)
        if finite(stepped.norm) is not None:
            scale.fitted()
        elif reason is None and not scale.overflowed():
            reason = f"the gradient's norm is {stepped.norm} at step {self.step + 1}; lower train.learning_rate"
        lengths = self.splits.train.lengths
        tokens = sum(int(lengths[row]) for passes in self.order.step(self.step) for rows in passes for row in rows)
        self._tokens += tokens
        self._losses.append(loss)
        self.step += 1
        if self.progress:
            self.progress.stepped(self.step, tokens)
        return reason

    def report(self, loss: float | None, *, whole: bool) -> dict[str, Any]:
        """A line of `metrics.jsonl`, in which `whole` says whether there will be a checkpoint."""
        self._value = finite(loss)
        train = self.spec.experiment.train
        rows = train.per_device_train_batch_size * train.gradient_accumulation_steps * self._ranks.size
        mean = sum(self._losses) / len(self._losses) if self._losses else None
        self._losses.clear()
        trained, self._told_tokens = self._tokens - self._told_tokens, self._tokens
        return {
            "step": self.step,
            "samples": self.step * rows,
            "tokens": self._tokens,
            "trained_tokens": trained,
            "train_loss": finite(mean),
            METRICS: {self._metric: finite(loss)},
            "seconds": round(self.seconds, 3),
            "eval_seconds": round(self.eval_seconds, 3),
            "memory_mib": peak_memory_mib(self._device),
            "adapter_mib": self._adapter_mib,
            "time": steady_stamp(),
            "checkpoint": checkpoint_name(self.step) if whole else None,
            **self._copy(),
        }

    def _copy(self) -> dict[str, Any]:
        """Returns the further fields of the first report after a copy."""
        if self.spec.copied is None or any(each["checkpoint"] for each in self._reports):
            return {}
        return {"copied_from": self.spec.copied.trial, "parameters": self.spec.parameters}

    def save(self, report: dict[str, Any]) -> str | None:
        """Writes the checkpoint of this step, then its report line; every rank calls it.

        The best checkpoint and the last two are kept.

        Returns:
            None, or the reason why it failed, such as a full disk; the checkpoint before is still complete then.
        """
        self.last_report = report
        optimizer = self.optimizer.state()  # gathered from all ranks
        if self._ranks.rank:
            return None
        try:
            self._write(report, optimizer)
        except OSError as error:
            return error.strerror if error.filename is None else str(error)
        self._times["reported"] = steady_time()
        return None

    def _write(self, report: dict[str, Any], optimizer: dict[str, torch.Tensor]) -> None:
        trainer = {
            "step": self.step,
            "tokens": self._tokens,
            "loss_scale": self._loss_scale.state(),
            "seconds": report["seconds"],
            "report": report,
        }
        config = peft_config(self.adapter, self.spec.experiment.base_model)
        whole = Checkpoint(self.adapter.to_peft(), optimizer, config, trainer)
        write_checkpoint(self.spec.directory.checkpoints / checkpoint_name(self.step), whole)
        append_metrics(self.spec.directory.metrics, report)
        self._reports.append(report)
        valued = (each for each in self._reports if each["checkpoint"] and self._cost(each) < math.inf)
        best = min(valued, key=self._cost, default=report)
        # Two of the last: one that turns out damaged has one before it, and another trial may be copying the first.
        last = {each["checkpoint"] for each in self._reports[-2:]}
        keep_only(self.spec.directory.checkpoints, {best["checkpoint"], *last})

    def _cost(self, report: dict[str, Any]) -> float:
        """Of the leading metric: less is better; infinite where the report has no value."""
        goal = self.spec.experiment.goals[0]
        value = value_in(report, goal.name)
        return math.inf if value is None else value if goal.mode == "min" else -value

    def end(self, kind: OutcomeKind, reason: str) -> Outcome:
        """How it ended; the first rank leaves `outcome.json` and `timing.json`."""
        outcome = Outcome(kind, reason, self.step, self._value, round(self.seconds, 3))
        self._leave(outcome)
        return outcome

    def dropped(self) -> None:
        """Ends the trial after the scheduler stopped it; the scheduler writes the outcome."""
        self._leave(None)

    def _leave(self, outcome: Outcome | None) -> None:
        if self._ranks.rank == 0:
            self._times["ended"] = steady_time()
            with contextlib.suppress(OSError):  # the disk may be full; the scheduler is told in any case
                if outcome is not None:
                    outcome.write(self.spec.directory)
                write_json(self.spec.directory.root / "timing.json", self._times)

    def _restore(self, beginning: Beginning | None) -> None:
        own = beginning is not None and beginning.own
        if beginning is not None:
            found = beginning.checkpoint
            self.adapter.from_peft(found.weights)
            self.optimizer.load_state(dict(found.optimizer))
            self.step, self._tokens = found.step, int(found.trainer["tokens"])
            self._loss_scale.load_state(found.trainer.get("loss_scale"))
            self.last_report = found.trainer["report"]
            self._value = value_in(self.last_report, self.spec.experiment.goals[0].name)
            self._seconds_before = float(found.trainer["seconds"])
        if self._ranks.rank == 0:
            self.spec.directory.root.mkdir(parents=True, exist_ok=True)
            self.spec.write()
            earlier = [each for each in read_metrics(self.spec.directory.metrics) if each["step"] <= self.step]
            if own and (not earlier or earlier[-1]["step"] < self.step):  # killed before its line was written
                earlier.append(self.last_report)
            if not own and self.spec.copied:  # its own weights are gone, but their reports stay in its curve
                earlier = [{**each, "checkpoint": None} for each in earlier]
            self._reports = earlier if own or self.spec.copied else []
            write_metrics(self.spec.directory.metrics, self._reports)

    def log_diverged(self, report: dict[str, Any]) -> None:
        """Writes the last report of a trial that diverged, which has no checkpoint."""
        if self._ranks.rank == 0:
            with contextlib.suppress(OSError):  # the disk may be full; the outcome says what happened
                append_metrics(self.spec.directory.metrics, report)
