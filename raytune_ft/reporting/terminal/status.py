"""Shows a run's status from its trials' files, while the sweep runs and after it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from raytune_ft.config.load import load_recorded
from raytune_ft.config.search.budget import Budget
from raytune_ft.paths import RunDirectory, shown_path
from raytune_ft.reporting.html.front import Best, bests_of, front_lines, front_of
from raytune_ft.reporting.plan_truth import Line, amount, plan_against_truth, span_words, spending_words
from raytune_ft.reporting.progress_words import progress_words
from raytune_ft.reporting.read import read_leaderboard, read_spending, read_trials
from raytune_ft.reporting.records import Spending, TrialRecord
from raytune_ft.reporting.terminal.leaderboard import outcome_text
from raytune_ft.reporting.wording import OUTCOMES, duration, measure, number, one_line, parameter_names
from raytune_ft.search.results.goals import goals_of
from raytune_ft.search.study.driver import read_driver
from raytune_ft.training.progress import TrialProgress


@dataclass(frozen=True)
class RunningTrial:
    """A trial without an outcome, and how long it has been silent."""

    trial: str
    step: int | None
    value: float | None
    """The leading metric's value at the last report."""
    running_s: float
    silent_s: float
    parameters: Mapping[str, Any]
    progress: TrialProgress | None = None


@dataclass(frozen=True)
class RunStatus:
    """The status of a run at one moment."""

    experiment: str
    metric: str
    """Name of the leading metric."""
    planned: int
    outcomes: Mapping[str, int]
    running: tuple[RunningTrial, ...]
    best: Best | None
    elapsed_s: float
    finished: bool
    """Whether the leaderboard has every trial, or the budget is used up; a stopped sweep's leaderboard has fewer."""
    spent: Spending | None = None
    spent_words: str = ""
    """What is used up of the budget, in words."""
    plan_truth: Mapping[str, Line] = field(default_factory=dict)
    dead_s: float | None = None
    """Seconds since the last heartbeat of a driver that died, so that nothing trains; else None."""
    stopped: bool = False
    """Whether the driver ended before the study had all of its trials."""
    resume: str = ""
    """The command line that resumes the run."""
    front: tuple[Best, ...] = ()
    """With several goals, the trials on the Pareto front so far."""


def run_status(run: RunDirectory, now: float | None = None) -> RunStatus:
    """Counts the trials by outcome and finds the running ones and the best so far.

    Args:
        run: The run directory.
        now: Unix time to take as the present; by default, the real one.
    """
    now = time.time() if now is None else now
    experiment = load_recorded(run)
    planned = experiment.search.trials if experiment.search else 1
    trials = read_trials(run)
    goals = goals_of(experiment)
    counts = {outcome: sum(trial.outcome == outcome for trial in trials) for outcome in OUTCOMES}
    running = tuple(_running(trial, now, goals[0].name) for trial in trials if trial.ending is None)
    began = min((trial.started for trial in trials), default=now)
    last = now if running else max((trial.touched for trial in trials), default=now)
    spent = read_spending(run) if run.spent.is_file() else None
    budget = experiment.search.budget if experiment.search else Budget()
    closed = spent is not None and spent.closed is not None and not running
    finished = closed or (run.leaderboard.is_file() and len(read_leaderboard(run).rows) >= planned)
    driver = read_driver(run)
    dead = driver is not None and driver.dead(now) and not finished
    return RunStatus(
        experiment=experiment.name,
        metric=goals[0].name,
        planned=planned,
        outcomes={outcome: count for outcome, count in counts.items() if count},
        running=running,
        best=next(iter(bests_of(trials, goals)), None),
        # Hours that drivers counted up to the last report: times of files include pauses, and the clock may be set.
        elapsed_s=3600 * spent.hours if spent else max(0.0, last - began),
        finished=finished,
        dead_s=max(0.0, now - driver.seen) if driver and dead else None,
        stopped=driver is not None and driver.ended and not finished,
        resume=f"raytune-ft {'sweep' if experiment.search else 'train'} --resume {shown_path(run.experiment)}",
        spent=spent,
        spent_words=spending_words(spent, budget) if spent else "",
        plan_truth={line.name: line for line in plan_against_truth(run)},
        front=front_of(trials, goals),
    )


def _running(trial: TrialRecord, now: float, metric: str) -> RunningTrial:
    last = trial.points[-1] if trial.points else None
    return RunningTrial(
        trial=trial.trial,
        step=last.step if last else None,
        value=last.value(metric) if last else None,
        running_s=max(0.0, now - trial.started),
        silent_s=max(0.0, now - trial.touched),
        parameters=trial.parameters,
        progress=trial.progress,
    )


def status_view(status: RunStatus) -> RenderableType:
    """Returns the status as text for a terminal."""
    ended = sum(count for outcome, count in status.outcomes.items() if outcome != "running")
    state = "finished" if status.finished else "not finished"
    if status.dead_s is not None or status.stopped:
        state = "stopped"
    count = f"{ended} of {status.planned} trials ended"
    lines = [Text(f"{status.experiment}: {state}, {count}, {duration(status.elapsed_s)}")]
    if status.dead_s is not None:
        lines.append(
            Text(f"its driver is dead, since about {duration(status.dead_s)}; nothing trains", style="bold red")
        )
    if status.dead_s is not None or status.stopped:
        lines.append(Text(f"to go on: {status.resume}"))
    if status.outcomes:
        counts = [Text.assemble(f"{many} ", outcome_text(outcome)) for outcome, many in status.outcomes.items()]
        lines.append(Text("  ").join(counts))
    if status.best:
        names = parameter_names([status.best.parameters])
        settings = ", ".join(f"{names[key]} {number(value, 3)}" for key, value in status.best.parameters.items())
        where = f"trial {status.best.trial}, step {status.best.step}"
        lines.append(Text(one_line(f"best {status.metric} {measure(status.best.value)} ({where}: {settings})")))
    lines += _accounts(status)
    lines += front_lines(status.front)
    if not status.running:
        return Group(*lines)
    if status.dead_s is not None or status.stopped:
        where = ", ".join(f"{trial.trial} at step {number(trial.step)}" for trial in status.running)
        return Group(*lines, Text(one_line(f"interrupted: {where}")))
    lines += [
        Text(one_line(f"trial {each.trial}: {progress_words(each.progress, each.running_s)}"))
        for each in status.running
    ]
    table = Table(box=box.SIMPLE_HEAD)
    for header in ("running", "step", status.metric, "for", "last sign of life"):
        table.add_column(header, justify="left" if header == "running" else "right")
    for trial in status.running:
        ago = f"{duration(trial.silent_s)} ago"
        table.add_row(trial.trial, number(trial.step), measure(trial.value), duration(trial.running_s), ago)
    return Group(*lines, table)


def _accounts(status: RunStatus) -> list[Text]:
    """Returns lines on what is used up, and on time and memory against the plan or forecast."""
    lines = [Text(f"spent: {status.spent_words}")] if status.spent else []
    if status.spent and status.spent.closed:
        lines.append(Text(f"closed: {status.spent.closed}"))
    for line in (status.plan_truth[name] for name in ("hours", "memory_mib") if name in status.plan_truth):
        thought = span_words(line.name, line.forecast or line.planned)
        when = "forecast after the first rung" if line.forecast else "planned"
        lines.append(Text(f"{line.words}: {amount(line.name, line.truth)}; {when} {thought}"))
    return lines
