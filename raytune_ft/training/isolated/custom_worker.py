"""The function that every Ray Train worker of a custom trial runs: it calls the user's, and passes on its reports."""

from __future__ import annotations

import gc
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray.train

from raytune_ft.hardware.out_of_memory import out_of_memory_reason
from raytune_ft.metrics.report import METRICS, for_ray, value_in
from raytune_ft.objectives.custom import data_of, load_trainer, settings_of
from raytune_ft.paths import checkpoint_name, read_json, write_json
from raytune_ft.training.guards import finite
from raytune_ft.training.isolated.group import first_rank, last_checkpoint
from raytune_ft.training.metrics_log import append_metrics, read_metrics, write_metrics
from raytune_ft.training.outcome import Outcome, OutcomeKind
from raytune_ft.training.peak_memory import peak_memory_mib
from raytune_ft.training.progress import ProgressWriter
from raytune_ft.training.spec import TrialSpec
from raytune_ft.training.steady_clock import steady_stamp

STATE = "raytune_ft.json"
"""In each checkpoint: its step, and whether the trainer saved anything beside it."""


class Diverged(BaseException):
    """Ends the user's function at a report that is no number; an `except Exception` of its own does not catch it."""


class Reports:
    """What the user's function is given as `report`.

    Args:
        spec: The trial.
        step: The step that it goes on from.
        seconds_before: Seconds that it had trained until then.
    """

    def __init__(self, spec: TrialSpec, step: int, seconds_before: float) -> None:
        self._spec, self.step = spec, step
        self._started = time.monotonic() - seconds_before
        self._names = [facts.name for facts in spec.experiment.objective.reports]
        self.values: dict[str, float] = {}
        steps = list(spec.experiment.report_steps())
        self._progress = ProgressWriter(spec.directory.progress, steps) if first_rank() else None
        if self._progress:
            self._progress.begins(step)

    @property
    def seconds(self) -> float:
        """Seconds since the trial's training began, including those before a restart."""
        return round(time.monotonic() - self._started, 3)

    def __call__(self, step: int, metrics: Mapping[str, float], checkpoint: str | Path | None = None) -> None:
        """Reports to the search, which may end the trial here.

        Args:
            step: Steps done; greater than at the last report.
            metrics: A value of each metric of `objective.metrics`.
            checkpoint: A directory to go on from after a restart; its files are copied.

        Raises:
            ValueError: The step does not ascend, or a metric is missing, unknown or no number.
        """
        if not isinstance(step, int) or isinstance(step, bool) or step <= self.step:
            raise ValueError(f"report: step {step!r} is not above {self.step}, the last one; count the steps done")
        if set(metrics) != set(self._names):
            raise ValueError(f"report: metrics {sorted(metrics)} are not those of objective.metrics, {self._names}")
        self.step, self.values = step, {name: float(metrics[name]) for name in self._names}
        bad = [name for name, value in self.values.items() if finite(value) is None]
        report = self._report(whole=not bad)
        if bad:
            if first_rank():
                append_metrics(self._spec.directory.metrics, report)
            raise Diverged(f"{bad[0]} is {self.values[bad[0]]} at step {step}")
        with tempfile.TemporaryDirectory() as scratch:
            saved = None
            if ray.train.get_context().get_local_rank() == 0:
                saved = ray.train.Checkpoint.from_directory(self._copy(Path(scratch) / "own", checkpoint))
            ray.train.report(for_ray(report), checkpoint=saved, checkpoint_dir_name=checkpoint_name(step))
        if first_rank():
            append_metrics(self._spec.directory.metrics, report)
        if self._progress:
            self._progress.begins(step)

    def _copy(self, target: Path, checkpoint: str | Path | None) -> Path:
        if checkpoint is None:
            target.mkdir()
        else:
            shutil.copytree(checkpoint, target)
        write_json(target / STATE, {"step": self.step, "saved": checkpoint is not None})
        return target

    def _report(self, *, whole: bool) -> dict[str, Any]:
        return {
            "step": self.step,
            METRICS: {name: finite(value) for name, value in self.values.items()},
            "seconds": self.seconds,
            "memory_mib": peak_memory_mib("cuda" if self._spec.experiment.resources.gpus_per_worker else "cpu"),
            "time": steady_stamp(),
            "checkpoint": checkpoint_name(self.step) if whole else None,
        }


def custom_worker(config: dict[str, Any]) -> None:
    """Runs the user's function to its end and writes `outcome.json`; a restarted group goes on from a checkpoint.

    Args:
        config: `{"spec": TrialSpec}`.
    """
    spec: TrialSpec = config["spec"]
    if Outcome.read(spec.directory) is not None:  # a rank had ended the trial before the group was restarted
        return
    with last_checkpoint() as directory:
        outcome = _run(spec, directory)
    completed = outcome.kind is OutcomeKind.completed
    if (first_rank() or not completed) and Outcome.read(spec.directory) is None:
        outcome.write(spec.directory)
    if not completed and ray.train.get_context().get_world_size() > 1:
        raise RuntimeError(outcome.reason)  # other ranks wait for this one's report; the new group returns above


def _run(spec: TrialSpec, directory: Path | None) -> Outcome:
    state = read_json(directory / STATE) if directory else {"step": 0, "saved": False}
    step = int(state["step"]) if state["saved"] else 0  # without files of its own it begins anew
    earlier = [report for report in read_metrics(spec.directory.metrics) if report["step"] <= step]
    last = earlier[-1] if earlier else {}
    if first_rank():
        write_metrics(spec.directory.metrics, earlier)
    seconds = float(last.get("seconds", 0.0))
    leading, most = spec.experiment.goals[0].name, spec.experiment.train.max_steps
    if step >= most:  # killed after the last report
        return Outcome(OutcomeKind.completed, f"ran all {step} steps", step, value_in(last, leading), seconds)
    report = Reports(spec, step, seconds)
    settings, data = settings_of(spec.experiment), data_of(spec.experiment)
    try:
        load_trainer(_custom(spec))(settings, data, report, str(directory) if directory and state["saved"] else None)
    except Diverged as ended:
        return Outcome(OutcomeKind.diverged, str(ended), report.step, None, report.seconds)
    except Exception as error:  # the user's own, which a retry would meet again
        if reason := out_of_memory_reason(error):
            gc.collect()
            return Outcome(OutcomeKind.out_of_memory, reason, report.step, None, report.seconds)
        return Outcome(OutcomeKind.failed, _where(error, spec), report.step, None, report.seconds)
    value = report.values.get(leading)
    if value is None:
        return Outcome(OutcomeKind.failed, "the trainer returned without a report; call report(step, metrics)")
    words = f"ran all {report.step} steps" if report.step >= most else f"returned after {report.step} steps"
    return Outcome(OutcomeKind.completed, words, report.step, value, report.seconds)


def _custom(spec: TrialSpec) -> Any:
    return spec.experiment.objective


def _where(error: Exception, spec: TrialSpec) -> str:
    """Returns the error with the last line of the user's own file that it passed through."""
    file, line, trace = Path(_custom(spec).file).resolve(), None, error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).resolve() == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    shown = f"{type(error).__name__}: {error}"
    return f"{file.name}:{line}: {shown}"[:300] if line else shown[:300]
