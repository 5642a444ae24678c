"""Evaluates, saves and reports to Ray Train at each report step, and stops the trial if a guard says so."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import ray.train
import torch.distributed as dist
from transformers import TrainerCallback

from raytune_ft.methods.weights.tuned import tuned_mib
from raytune_ft.metrics.report import METRICS, for_ray
from raytune_ft.paths import checkpoint_name
from raytune_ft.training.base_loss import keep_base_loss
from raytune_ft.training.guards import DivergenceGuard, finite
from raytune_ft.training.metrics_log import append_metrics
from raytune_ft.training.peak_memory import peak_memory_mib
from raytune_ft.training.progress import ProgressWriter
from raytune_ft.training.spec import TrialSpec
from raytune_ft.training.steady_clock import steady_stamp


class ReportingCallback(TrainerCallback):
    """Runs on every rank; losses were reduced over the ranks before, so that the ranks agree on each decision."""

    def __init__(self, spec: TrialSpec, base_loss: float | None, seconds_before: float) -> None:
        self._spec = spec
        self._report_steps = frozenset(spec.experiment.report_steps())
        self._started = time.monotonic() - seconds_before
        self._losses: list[float] = []
        self._tokens = 0
        self._eval_seconds = 0.0
        objective = spec.experiment.objective
        self._reported = [facts.name for facts in objective.reports]
        self._values: dict[str, float] = {}
        self.guard = DivergenceGuard(spec.experiment.train.divergence_factor, objective.diverges_by, base_loss)
        self.diverged: str | None = None
        first = ray.train.get_context().get_world_rank() == 0
        self._progress = ProgressWriter(spec.directory.progress, sorted(self._report_steps)) if first else None
        self._told_tokens = 0
        self._predicted = 0

    @property
    def leading(self) -> float | None:
        """The last value of the metric that leads the search; None before the first, or where it is not finite."""
        return finite(self._values.get(self._spec.experiment.goals[0].name))

    @property
    def seconds(self) -> float:
        """Seconds since the trial's training began, including those before a restart."""
        return time.monotonic() - self._started

    def loads(self, step: int) -> None:
        """Notes that the trial's model is being loaded, to go on from `step`."""
        if self._progress:
            self._progress.loading(step)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._progress:
            self._progress.begins(state.global_step)

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Updates the progress after each batch of an evaluation."""
        if self._progress:
            batches = len(kwargs["eval_dataloader"])
            self._predicted += 1
            self._progress.evaluating(state.global_step, min(self._predicted / max(1, batches), 0.99))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        logs = logs or {}
        self._tokens = int(logs.get("num_tokens", self._tokens))
        if "loss" in logs:
            self._losses.append(float(logs["loss"]))
            self._stop_if(self.guard.train_loss(state.global_step, float(logs["loss"])), control)
            if self._progress:
                self._progress.stepped(state.global_step, self._tokens - self._told_tokens)
            self._told_tokens = self._tokens
            if self._progress and state.global_step in self._report_steps:  # after the step's own time was taken
                self._predicted = 0
                self._progress.evaluating(state.global_step, 0.0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_log = True
        if state.global_step in self._report_steps:
            control.should_evaluate = control.should_save = True

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 0:
            self._base_measured(kwargs["metrics"])
            return
        self._values = {name: float(kwargs["metrics"][name]) for name in self._reported}
        self._eval_seconds += float(kwargs["metrics"].get("eval_runtime", 0.0))
        if self._progress:
            self._progress.evaluating(state.global_step, 1.0)
        self._stop_if(self.guard.evaluated(state.global_step, self._values), control)

    def _base_measured(self, metrics: dict[str, Any]) -> None:
        """Before the first step; the time that it took is not the trial's."""
        if self.guard.metric is None:  # nobody asks for it
            return
        self.guard.base_loss = loss = float(metrics[self.guard.metric])
        self._started += float(metrics.get("eval_runtime", 0.0))
        if self._progress:  # on the first rank
            keep_base_loss(self._spec, loss)
            self._predicted = 0
            self._progress.begins(0)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Reports the checkpoint; the first rank of each node passes its files to Ray Train, which merges them."""
        context = ray.train.get_context()
        if dist.is_initialized():
            dist.barrier()
        saved = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        checkpoint = ray.train.Checkpoint.from_directory(saved) if context.get_local_rank() == 0 else None
        report = self._report(state.global_step, context.get_world_size(), tuned_mib(saved))
        if self.diverged is None:
            ray.train.report(
                for_ray(report),
                checkpoint=checkpoint,
                checkpoint_dir_name=checkpoint_name(state.global_step),
                delete_local_checkpoint_after_upload=True,
            )
        if context.get_world_rank() == 0:
            append_metrics(self._spec.directory.metrics, report)
        self._losses.clear()
        if self._progress:
            self._progress.begins(state.global_step)

    def _report(self, step: int, workers: int, adapter_mib: float | None) -> dict[str, Any]:
        train = self._spec.experiment.train
        rows = train.per_device_train_batch_size * train.gradient_accumulation_steps * workers
        return {
            "step": step,
            "samples": step * rows,
            "tokens": self._tokens,
            "train_loss": finite(sum(self._losses) / len(self._losses)) if self._losses else None,
            METRICS: {name: finite(self._values.get(name)) for name in self._reported},
            "seconds": round(self.seconds, 3),
            "eval_seconds": round(self._eval_seconds, 3),
            "memory_mib": peak_memory_mib("cuda" if self._spec.experiment.resources.gpus_per_worker else "cpu"),
            "adapter_mib": adapter_mib,
            "time": steady_stamp(),
            "checkpoint": checkpoint_name(step) if self.diverged is None else None,
        }

    def _stop_if(self, reason: str | None, control: Any) -> None:
        if reason and self.diverged is None:
            self.diverged = reason
            control.should_training_stop = True
