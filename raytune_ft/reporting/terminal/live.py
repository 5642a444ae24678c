"""Shows a running sweep: as a live table on a terminal, as one plain line per event elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from raytune_ft.config.search.goals import Metric
from raytune_ft.events.kinds import Ended, Event, Progressed, Reported, Started
from raytune_ft.metrics.named import sign
from raytune_ft.metrics.report import value_in
from raytune_ft.paths import RunDirectory, TrialDirectory
from raytune_ft.reporting.progress_words import progress_words
from raytune_ft.reporting.terminal.leaderboard import outcome_text
from raytune_ft.reporting.wording import duration, measure, number, one_line, outcome_words, parameter_names
from raytune_ft.training.metrics_log import read_metrics
from raytune_ft.training.progress import Phase, TrialProgress
from raytune_ft.training.steady_clock import steady_time

_SMALLEST_TABLE = 6
_FIRST_LINE_S, _LINE_S = 7.0, 12.0
"""Without a live table, seconds without a line about a running trial after which its progress is printed: the first
time after its start, and later."""
_MOST_LINES = 4
"""How many running trials get a line of their own; the others are counted."""


@dataclass
class _Trial:
    parameters: Mapping[str, Any]
    began: float
    said: float  # when a line about the trial was last printed
    state: str = "running"
    metrics: Mapping[str, Any] = field(default_factory=dict)
    value: float | None = None
    progress: TrialProgress | None = None
    ended: float | None = None

    def words(self, now: float) -> str:
        """Returns how far the trial is."""
        silent_s = steady_time() - self.progress.time if self.progress else 0.0
        return progress_words(self.progress, now - self.began, silent_s)


def ended_before(run: RunDirectory, goal: Metric) -> dict[str, float | None]:
    """Returns the trials of a run that have ended already, name -> the best value that it reported."""
    found: dict[str, float | None] = {}
    for path in sorted(run.trials.glob("*")):
        trial = TrialDirectory(path)
        if trial.outcome.is_file():
            reports = read_metrics(trial.metrics)
            values = [value for report in reports if (value := value_in(report, goal.name)) is not None]
            found[path.name] = min(values, key=lambda value: sign(goal) * value, default=None)
    return found


class LiveTable:
    """Shows what a sweep is doing; a listener of its events, which the command line makes.

    Args:
        total_trials: How many trials the study will have.
        goal: The leading goal.
        console: The console to draw on, normally stderr.
        before: Trials that ended in an earlier part of the study, name -> best value, or None.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        total_trials: int,
        goal: Metric,
        console: Console,
        before: Mapping[str, float | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._goal, self._console, self._clock = total_trials, goal, console, clock
        self._metric = goal.name
        self._trials: dict[str, _Trial] = {}
        self._before = frozenset(before or ())
        self._best: tuple[float, str] | None = None
        for trial, value in (before or {}).items():
            self._consider(trial, value)
        self._began = self._clock()
        self._lock = threading.Lock()  # rich redraws from a thread of its own
        live = Live(get_renderable=self._render, console=console, refresh_per_second=1)
        self._live = live if console.is_terminal else None

    def __enter__(self) -> LiveTable:
        self._began = self._clock()
        if self._live:
            self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Shows an event of the run."""
        match event:
            case Started(trial, parameters):
                self.started(trial, parameters)
            case Progressed(trial, state):
                self.progressed(trial, state)
            case Reported(trial, report):
                self.reported(trial, report)
            case Ended(trial, outcome):
                self.ended(trial, str(outcome.kind), outcome.reason, outcome.value)

    def started(self, trial: str, parameters: Mapping[str, Any]) -> None:
        """Shows that a trial began with these parameters."""
        with self._lock:
            now = self._clock()
            self._trials[trial] = _Trial(dict(parameters), now, now)
        names = parameter_names([parameters])
        settings = ", ".join(f"{names[key]} {number(value, 3)}" for key, value in parameters.items())
        self._say(f"trial {trial} [{len(self._before | self._trials.keys())}/{self._total}] started: {settings}")

    def progressed(self, trial: str, state: TrialProgress | None) -> None:
        """Shows how far a running trial is; `state` is None before its workers report. Is called every few seconds."""
        now = self._clock()
        with self._lock:
            record = self._of(trial)
            first = record.said == record.began
            record.progress = state
            running = [name for name, each in self._trials.items() if each.ended is None]
            due = now - record.said >= (_FIRST_LINE_S if first else _LINE_S)
            if self._live is not None or not due or trial not in running or (state and state.phase is Phase.waiting):
                return
            record.said = now
            place, others, words = running.index(trial), len(running) - _MOST_LINES, record.words(now)
        if place < _MOST_LINES:
            more = f" (and {others} more trials run)" if place == _MOST_LINES - 1 and others > 0 else ""
            self._say(f"trial {trial}: {words}{more}")

    def reported(self, trial: str, metrics: Mapping[str, Any]) -> None:
        """Shows a trial's report; see `raytune_ft.metrics.report`."""
        with self._lock:
            record = self._of(trial)
            record.metrics, record.said = {**record.metrics, **metrics}, self._clock()
            self._consider(trial, value_in(metrics, self._metric))
        told = {key: metrics.get(key) for key in ("step", "rung", "train_loss")}
        told[self._metric] = value_in(metrics, self._metric)
        parts = [f"{key} {_shown(value)}" for key, value in told.items() if value is not None]
        self._say(f"trial {trial}: {', '.join(parts)}{self._best_words()}")

    def ended(self, trial: str, outcome: str, reason: str, value: float | None) -> None:
        """Shows that a trial ended, with its value if it has one."""
        with self._lock:
            record = self._of(trial)
            record.state, record.value, record.ended = outcome, value, self._clock()
            self._consider(trial, value)
            took = duration(record.ended - record.began)
        result = f", {self._metric} {measure(value)}" if value is not None else ""
        because = f": {reason}" if reason else ""
        self._say(f"trial {trial} {outcome_words(outcome)} after {took}{result}{because}{self._best_words()}")

    def _of(self, trial: str) -> _Trial:
        """Returns the trial's record, and makes one if its start was not announced."""
        now = self._clock()
        return self._trials.setdefault(trial, _Trial({}, now, now))

    def _consider(self, trial: str, value: Any) -> None:
        if isinstance(value, int | float) and value == value and self._better(value):
            self._best = (float(value), trial)

    def _better(self, value: float) -> bool:
        return self._best is None or sign(self._goal) * value < sign(self._goal) * self._best[0]

    def _best_words(self) -> str:
        return f" (best {measure(self._best[0])}, trial {self._best[1]})" if self._best else ""

    def _say(self, line: str) -> None:
        if self._live is None:
            self._console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)

    def _render(self) -> RenderableType:
        with self._lock:
            ended = len(self._before) + sum(trial.ended is not None for trial in self._trials.values())
            best = self._best_words().strip(" ()") or "no result yet"
            elapsed = duration(self._clock() - self._began)
            summary = Text(f"{ended} of {self._total} trials ended, {best}, {elapsed}", style="bold")
            return Group(self._table(), *self._running_lines(), summary)

    def _running_lines(self) -> list[Text]:
        """Returns the lines below the table, which say how far the running trials are."""
        now = self._clock()
        running = [(name, each) for name, each in self._trials.items() if each.ended is None]
        lines = [f"trial {name}: {each.words(now)}" for name, each in running[:_MOST_LINES]]
        if len(running) > _MOST_LINES:
            lines.append(f"and {len(running) - _MOST_LINES} more trials run")
        return [Text(line, style="dim") for line in lines]

    def _table(self) -> Table:
        names = parameter_names(trial.parameters for trial in self._trials.values())
        table = Table(box=box.SIMPLE_HEAD)
        for header in ("trial", "state", "step", "rung", "train_loss", self._metric, "time", *names.values()):
            table.add_column(header, justify="left" if header in ("trial", "state") else "right", no_wrap=True)
        for name in self._visible():
            trial = self._trials[name]
            value = trial.value if trial.value is not None else value_in(trial.metrics, self._metric)
            table.add_row(
                Text(one_line(name)),
                outcome_text(trial.state),
                *(number(trial.metrics.get(key)) for key in ("step", "rung")),
                measure(trial.metrics.get("train_loss")),
                measure(value),
                duration((trial.ended or self._clock()) - trial.began),
                *(Text(one_line(number(trial.parameters.get(key), 3))) for key in names),
                style="bold" if self._best and self._best[1] == name else None,
            )
        return table

    def _visible(self) -> list[str]:
        """Returns as many trials as fit on the terminal: the best, the running, then the latest; oldest first."""
        room = max(_SMALLEST_TABLE, self._console.size.height - 7 - _MOST_LINES)
        best = self._best[1] if self._best else None
        order = sorted(
            enumerate(self._trials.items()),
            key=lambda item: (item[1][0] != best, item[1][1].ended is not None, -item[0]),
        )
        return [name for _, (name, _) in sorted(order[:room], key=lambda item: item[0])]


def _shown(value: Any) -> str:
    return measure(value) if isinstance(value, float) else number(value)
