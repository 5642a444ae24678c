"""`progress.json`: where a trial is between two reports, for whoever watches; only its last state is kept."""

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
"""Between two writes: a step of a small model takes less."""
RECENT = 0.8
"""Share of the last seconds a step that a new step leaves."""


class Phase(StrEnum):
    """What a trial is doing."""

    loading = "loading"
    training = "training"
    evaluating = "evaluating"
    waiting = "waiting"


@dataclass(frozen=True)
class TrialProgress:
    """Where a trial is.

    Attributes:
        phase: What it does.
        step: Optimizer steps done.
        next_report: The step at which it reports next.
        last_step: The step at which it ends, if nobody stops it.
        reports_left: Reports that it has yet to make by then.
        step_s: Seconds of a step, of late; None before the first.
        tokens_per_s: Trained, of late.
        evaluated: Share of the validation rows that are evaluated, while it does that.
        evaluation_s: Seconds that its last whole evaluation took; None before the first.
        time: Seconds since the epoch, of the trial's process.
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
        """Seconds until it reports next; None before its first step."""
        return None if self.step_s is None else self.step_s * (self.next_report - self.step) + self._evaluation(1)

    @property
    def end_in_s(self) -> float | None:
        """Seconds until it ends, if nobody stops it; None before its first step."""
        if self.step_s is None:
            return None
        return self.step_s * (self.last_step - self.step) + self._evaluation(self.reports_left)

    def _evaluation(self, times: int) -> float:
        return times * (self.evaluation_s or 0.0)


def read_progress(path: Path) -> TrialProgress | None:
    """The last state, or None where there is none that can be read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return TrialProgress(**{**values, "phase": Phase(values["phase"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


class ProgressWriter:
    """Writes the file of one trial, on its first rank; what can't be written is left out, as it is no result.

    Args:
        path: The file.
        report_steps: The steps at which the trial reports; the greatest is its last.
        clock: Seconds that only grow.
    """

    def __init__(self, path: Path, report_steps: Sequence[int], clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._report_steps, self._clock = path, sorted(report_steps), clock
        self._written_s = float("-inf")
        self._step_s: float | None = None
        self._tokens_per_s: float | None = None
        self._evaluation_s: float | None = None
        self._began_s = clock()

    def loading(self, step: int) -> None:
        """Its model and data are being made ready."""
        self._write(Phase.loading, step)

    def begins(self, step: int) -> None:
        """It trains from here, or again after it waited."""
        self._began_s = self._clock()
        self._write(Phase.training, step)

    def stepped(self, step: int, tokens: int) -> None:
        """It has done `step` steps, the last with that many tokens over all workers."""
        now = self._clock()
        took, self._began_s = now - self._began_s, now
        self._step_s = _recent(self._step_s, took)
        self._tokens_per_s = _recent(self._tokens_per_s, tokens / took if took > 0 else 0.0)
        if now - self._written_s >= EVERY_S:
            self._write(Phase.training, step)

    def evaluating(self, step: int, share: float) -> None:
        """So much of the validation rows are evaluated, from 0 to 1."""
        now = self._clock()
        if share == 0.0:
            self._began_s = now
        elif share == 1.0:
            self._evaluation_s, self._began_s = now - self._began_s, now
        if share in (0.0, 1.0) or now - self._written_s >= EVERY_S:
            self._write(Phase.evaluating, step, share)

    def waits(self, step: int) -> None:
        """It has reported, and the scheduler decides whether it goes on."""
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
