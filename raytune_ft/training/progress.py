"""Reads and writes `progress.json`, a trial's progress between two reports; only the last state is kept."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from raytune_ft.training.steady_clock import steady_time

EVERY_S = 2.0
"""Seconds between two writes, since steps of a small model take less."""
RECENT = 0.8
"""Decay of the exponential moving averages of step time and speed."""


class Phase(StrEnum):
    """The current activity of a trial."""

    loading = "loading"
    training = "training"
    evaluating = "evaluating"
    waiting = "waiting"


@dataclass(frozen=True)
class TrialProgress:
    """The progress of a trial.

    Attributes:
        phase: The current activity.
        step: Number of optimizer steps done.
        next_report: The step at which it reports next.
        last_step: The step at which it ends unless it is stopped.
        reports_left: Number of reports until then.
        step_s: Recent seconds per step; None before the first step.
        tokens_per_s: Recent number of trained tokens per second.
        evaluated: Fraction of the validation rows that are evaluated, during an evaluation.
        evaluation_s: Seconds of its last complete evaluation; None before the first.
        time: Time of this state by the trial's process, in seconds since the epoch.
    """

    phase: Phase
    step: int
    next_report: int
    last_step: int
    reports_left: int = 0
    step_s: float | None = None
    tokens_per_s: float | None = None
    evaluated: float | None = None
    evaluation_s: float | None = None
    time: float = 0.0

    @property
    def report_in_s(self) -> float | None:
        """Estimated seconds until the next report; None before the first step."""
        return None if self.step_s is None else self.step_s * (self.next_report - self.step) + self._evaluation(1)

    @property
    def end_in_s(self) -> float | None:
        """Estimated seconds until the end unless it is stopped; None before the first step."""
        if self.step_s is None:
            return None
        return self.step_s * (self.last_step - self.step) + self._evaluation(self.reports_left)

    def _evaluation(self, times: int) -> float:
        return times * (self.evaluation_s or 0.0)


def read_progress(path: Path) -> TrialProgress | None:
    """Returns the last state, or None if there is none or it can't be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return TrialProgress(**{**values, "phase": Phase(values["phase"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


class ProgressWriter:
    """Writes the file of one trial, on its first rank; write errors are ignored, because progress is not a result.

    Args:
        path: The file.
        report_steps: The steps at which the trial reports; the greatest is its last.
        clock: Returns a monotonic time in seconds.
    """

    def __init__(self, path: Path, report_steps: Sequence[int], clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._report_steps, self._clock = path, sorted(report_steps), clock
        self._written_s = float("-inf")
        self._step_s: float | None = None
        self._tokens_per_s: float | None = None
        self._evaluation_s: float | None = None
        self._began_s = clock()

    def loading(self, step: int) -> None:
        """Notes that the trial's model and data are being loaded."""
        self._write(Phase.loading, step)

    def begins(self, step: int) -> None:
        """Notes that the trial starts to train, or goes on after it waited."""
        self._began_s = self._clock()
        self._write(Phase.training, step)

    def stepped(self, step: int, tokens: int) -> None:
        """Notes that `step` steps are done, the last with `tokens` tokens over all workers."""
        now = self._clock()
        took, self._began_s = now - self._began_s, now
        self._step_s = _recent(self._step_s, took)
        self._tokens_per_s = _recent(self._tokens_per_s, tokens / took if took > 0 else 0.0)
        if now - self._written_s >= EVERY_S:
            self._write(Phase.training, step)

    def evaluating(self, step: int, share: float) -> None:
        """Notes the fraction of the validation rows that are evaluated, from 0 to 1."""
        now = self._clock()
        if share == 0.0:
            self._began_s = now
        elif share == 1.0:
            self._evaluation_s, self._began_s = now - self._began_s, now
        if share in (0.0, 1.0) or now - self._written_s >= EVERY_S:
            self._write(Phase.evaluating, step, share)

    def waits(self, step: int) -> None:
        """Notes that the trial has reported and waits for the scheduler's decision."""
        self._write(Phase.waiting, step)

    def _write(self, phase: Phase, step: int, evaluated: float | None = None) -> None:
        self._written_s = self._clock()
        last = self._report_steps[-1]
        state = TrialProgress(
            phase=phase,
            step=step,
            next_report=next((each for each in self._report_steps if each > step), last),
            last_step=last,
            reports_left=sum(each > step for each in self._report_steps),
            step_s=_rounded(self._step_s),
            tokens_per_s=_rounded(self._tokens_per_s),
            evaluated=_rounded(evaluated),
            evaluation_s=_rounded(self._evaluation_s),
            time=steady_time(),
        )
        aside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with suppress(OSError):
            aside.write_text(json.dumps(asdict(state)), encoding="utf-8")
            os.replace(aside, self._path)


def _recent(before: float | None, now: float) -> float:
    return now if before is None else RECENT * before + (1 - RECENT) * now


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
