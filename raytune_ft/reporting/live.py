"""The table of a running sweep: live on a terminal, one plain line per event elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from raytune_ft.paths import RunDirectory, TrialDirectory
from raytune_ft.reporting.leaderboard import outcome_text
from raytune_ft.reporting.wording import duration, measure, number, one_line, outcome_words, parameter_names
from raytune_ft.training.metrics_log import read_metrics

_SMALLEST_TABLE = 6


@dataclass
class _Trial:
    parameters: Mapping[str, Any]
    state: str = "running"
    metrics: Mapping[str, Any] = field(default_factory=dict)
    value: float | None = None
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None


def ended_before(run: RunDirectory, metric: str) -> dict[str, float | None]:
    """The trials of a run that ended already -> the best value that each reported, less being better."""
    found: dict[str, float | None] = {}
    for path in sorted(run.trials.glob("*")):
        trial = TrialDirectory(path)
        if trial.outcome.is_file():
            values = [report[metric] for report in read_metrics(trial.metrics) if report.get(metric) is not None]
            found[path.name] = min(values, default=None)
    return found


class LiveTable:
    """Shows what a sweep is doing; the search calls it, the command line makes it.

    Args:
        total_trials: Trials that the study will have.
        metric: Name of the number that decides, less being better.
        console: Where to draw, normally stderr.
        before: Trials that ended in an earlier part of the study -> the value of each that has one.
    """

    def __init__(
        self,
        total_trials: int,
        metric: str,
        console: Console,
        before: Mapping[str, float | None] | None = None,
    ) -> None:
        self._total, self._metric, self._console = total_trials, metric, console
        self._trials: dict[str, _Trial] = {}
        self._before = frozenset(before or ())
        self._best: tuple[float, str] | None = None
        for trial, value in (before or {}).items():
            self._consider(trial, value)
        self._began = time.monotonic()
        self._lock = threading.Lock()  # rich redraws from a thread of its own
        live = Live(get_renderable=self._render, console=console, refresh_per_second=1)
        self._live = live if console.is_terminal else None

    def __enter__(self) -> LiveTable:
        self._began = time.monotonic()
        if self._live:
            self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def started(self, trial: str, parameters: Mapping[str, Any]) -> None:
        """A trial began with these parameters."""
        with self._lock:
            self._trials[trial] = _Trial(dict(parameters))
        names = parameter_names([parameters])
        settings = ", ".join(f"{names[key]} {number(value, 3)}" for key, value in parameters.items())
        self._say(f"trial {trial} [{len(self._before | self._trials.keys())}/{self._total}] started: {settings}")

    def reported(self, trial: str, metrics: Mapping[str, Any]) -> None:
        """A trial sent a report; the contract's names are `step`, `rung`, `train_loss`, `eval_loss`, `seconds`."""
        with self._lock:
            record = self._trials.setdefault(trial, _Trial({}))
            record.metrics = {**record.metrics, **metrics}
            self._consider(trial, metrics.get(self._metric))
        shown = ("step", "rung", "train_loss", self._metric)
        parts = [f"{key} {_shown(metrics[key])}" for key in shown if metrics.get(key) is not None]
        self._say(f"trial {trial}: {', '.join(parts)}{self._best_words()}")

    def ended(self, trial: str, outcome: str, reason: str, value: float | None) -> None:
        """A trial ended, with its value where it has one."""
        with self._lock:
            record = self._trials.setdefault(trial, _Trial({}))
            record.state, record.value, record.ended = outcome, value, time.monotonic()
            self._consider(trial, value)
            took = duration(record.ended - record.began)
        result = f", {self._metric} {measure(value)}" if value is not None else ""
        because = f": {reason}" if reason else ""
        self._say(f"trial {trial} {outcome_words(outcome)} after {took}{result}{because}{self._best_words()}")

    def _consider(self, trial: str, value: Any) -> None:
        if isinstance(value, int | float) and value == value and (self._best is None or value < self._best[0]):
            self._best = (float(value), trial)

    def _best_words(self) -> str:
        return f" (best {measure(self._best[0])}, trial {self._best[1]})" if self._best else ""

    def _say(self, line: str) -> None:
        if self._live is None:
            self._console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)

    def _render(self) -> RenderableType:
        with self._lock:
            ended = len(self._before) + sum(trial.ended is not None for trial in self._trials.values())
            best = self._best_words().strip(" ()") or "no result yet"
            elapsed = duration(time.monotonic() - self._began)
            summary = Text(f"{ended} of {self._total} trials ended, {best}, {elapsed}", style="bold")
            return Group(self._table(), summary)

    def _table(self) -> Table:
        names = parameter_names(trial.parameters for trial in self._trials.values())
        table = Table(box=box.SIMPLE_HEAD)
        for header in ("trial", "state", "step", "rung", "train_loss", self._metric, "time", *names.values()):
            table.add_column(header, justify="left" if header in ("trial", "state") else "right", no_wrap=True)
        for name in self._visible():
            trial = self._trials[name]
            value = trial.value if trial.value is not None else trial.metrics.get(self._metric)
            table.add_row(
                Text(one_line(name)),
                outcome_text(trial.state),
                *(number(trial.metrics.get(key)) for key in ("step", "rung")),
                measure(trial.metrics.get("train_loss")),
                measure(value),
                duration((trial.ended or time.monotonic()) - trial.began),
                *(Text(one_line(number(trial.parameters.get(key), 3))) for key in names),
                style="bold" if self._best and self._best[1] == name else None,
            )
        return table

    def _visible(self) -> list[str]:
        """As many trials as the terminal has lines for: the best, the running, then the latest; oldest first."""
        room = max(_SMALLEST_TABLE, self._console.size.height - 7)
        best = self._best[1] if self._best else None
        order = sorted(
            enumerate(self._trials.items()),
            key=lambda item: (item[1][0] != best, item[1][1].ended is not None, -item[0]),
        )
        return [name for _, (name, _) in sorted(order[:room], key=lambda item: item[0])]


def _shown(value: Any) -> str:
    return measure(value) if isinstance(value, float) else number(value)
