"""Forecasts how much a sweep trains under its scheduler: steps, reports and tokens."""

from __future__ import annotations

import math
import random
import statistics
from bisect import bisect_left, insort
from dataclasses import dataclass

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.possible import possible
from raytune_ft.config.search.schedulers import Asha, Halving, Median, NoScheduler
from raytune_ft.config.search.search import STEPS
from raytune_ft.search.planning.bounds import Bounds, bounds, lengths
from raytune_ft.search.planning.row_lengths import RowLengths
from raytune_ft.search.planning.span import Span

DRAWS = 400
"""How many sweeps are simulated, each with trials in another random order of quality."""
SPREAD = 0.95
"""1.645 standard deviations of a uniform distribution, as a share of half its range."""
SAMPLED_ROWS = 1.15
"""The factor within which the mean tokens per row lie if only a sample of the rows was counted."""


@dataclass(frozen=True)
class Work:
    """The work of a whole sweep.

    Attributes:
        trials: How many trials start.
        steps: Optimizer steps of all trials.
        reports: Evaluations of all trials, each with a checkpoint.
        tokens: Tokens that are trained; None where the length of rows is unknown.
        trial_tokens: Trained tokens of one trial that runs to its end; None likewise.
        evaluated_tokens: Evaluated tokens over all reports; None likewise.
    """

    trials: int
    steps: Span
    reports: Span
    tokens: Span | None
    trial_tokens: Span | None
    evaluated_tokens: Span | None


def work_of(experiment: Experiment, steps: Bounds, halving_steps: int | None, rows: RowLengths | None) -> Work:
    """Returns the work of the experiment's sweep, from the least to the most that is possible.

    Args:
        experiment: The experiment, with or without `search`.
        steps: The least and the most optimizer steps of the whole sweep.
        halving_steps: Its steps if just one trial in `reduction_factor` goes on from each rung, or None.
        rows: How long the training rows are; None where that is unknown.
    """
    trials = experiment.search.trials if experiment.search else 1
    played = played_through(experiment)
    if played:
        likely_steps = statistics.fmean(steps_ for steps_, _ in played)
        likely_reports = statistics.fmean(reports for _, reports in played)
    else:
        likely_steps = _likely_steps(experiment, steps, halving_steps)
        likely_reports = trials * _most_reports(experiment) * likely_steps / max(1, steps.most)
    most_reports = float(trials * _most_reports(experiment))
    reports = Span(float(trials), max(float(trials), likely_reports), max(most_reports, float(trials)))
    span = Span(float(steps.least), min(max(likely_steps, steps.least), steps.most), float(steps.most))
    if rows is None:
        return Work(trials, span, reports, None, None, None)
    per_step = _samples_per_step(experiment)
    per_row = Span.within(1.0 if rows.exact else SAMPLED_ROWS, rows.of_row)
    last = bounds(experiment, STEPS)
    of_trial = Span(float(last.least), statistics.fmean(lengths(experiment)), float(last.most)) * per_step * per_row
    evaluated = reports * float(rows.validation_tokens)
    return Work(trials, span, reports, span * per_step * per_row, of_trial, evaluated)


def narrowed(experiment: Experiment, work: Work) -> Work:
    """Returns the work with ranges that nine of ten sweeps lie in, instead of the least and the most possible."""
    if work.tokens is None or work.evaluated_tokens is None:
        return work
    played = played_through(experiment)
    steps, reports = work.steps, work.reports
    if played:
        steps, reports = (_range([float(each[at]) for each in played]) for at in (0, 1))
    whole_trials = max(1.0, steps.likely / statistics.fmean(lengths(experiment)))
    batch = _mean_of_draws(_samples_per_step(experiment), whole_trials)
    per_row = work.tokens.likely / work.steps.likely / batch.likely
    per_report = work.evaluated_tokens.likely / work.reports.likely
    tokens = steps.times_unrelated(batch) * per_row
    return Work(work.trials, steps, reports, tokens, work.trial_tokens, reports * per_report)


def _mean_of_draws(span: Span, draws: float) -> Span:
    """Returns the range in which nine of ten means lie of `draws` values drawn uniformly from `span`."""
    half = SPREAD / math.sqrt(draws)
    low = span.likely - half * (span.likely - span.low)
    return Span(max(low, span.low), span.likely, min(span.likely + half * (span.high - span.likely), span.high))


def _range(values: list[float]) -> Span:
    ranked = sorted(values)
    return Span(ranked[len(ranked) // 20], statistics.fmean(ranked), ranked[-1 - len(ranked) // 20])


def _likely_steps(experiment: Experiment, steps: Bounds, halving_steps: int | None) -> float:
    scheduler = experiment.search.scheduler if experiment.search else NoScheduler()
    whole = steps.most / experiment.longest * statistics.fmean(lengths(experiment))
    if isinstance(scheduler, Halving) and halving_steps is not None:
        return float(halving_steps)
    if isinstance(scheduler, Median):
        return (steps.least + whole) / 2
    return whole


def _most_reports(experiment: Experiment) -> int:
    """Returns how many reports the longest trial makes."""
    return len(_as_long(experiment, experiment.longest).report_steps())


def _as_long(experiment: Experiment, steps: int) -> Experiment:
    return experiment.model_copy(update={"train": experiment.train.model_copy(update={"max_steps": steps})})


def _samples_per_step(experiment: Experiment) -> Span:
    batch = [float(each) for each in possible(experiment, "train.per_device_train_batch_size")]
    span = Span(min(batch), statistics.fmean(batch), max(batch))
    for key in ("train.gradient_accumulation_steps", "resources.workers"):
        values = [float(each) for each in possible(experiment, key)]
        span = span * Span(min(values), statistics.fmean(values), max(values))
    return span


def played_through(experiment: Experiment) -> list[tuple[int, int]]:
    """Simulates sweeps under asynchronous halving, with trials in a random order of quality.

    A trial goes on from a rung if it is at least as good as the quantile of those that reached it before (Ray Tune's
    rule); the first one always does. It ends at its own last step.

    Returns:
        Steps and reports of each simulated sweep; empty for other schedulers.
    """
    search = experiment.search
    if search is None or not isinstance(search.scheduler, Asha):
        return []
    rungs, factor, possible = experiment.study_rungs(), search.scheduler.reduction_factor, lengths(experiment)
    report_steps = {length: _as_long(experiment, length).report_steps() for length in set(possible)}
    draw = random.Random(0)
    found = []
    for _ in range(DRAWS if search.trials <= 100 else DRAWS // 20):
        seen: dict[int, list[float]] = {rung: [] for rung in rungs}
        steps = reports = 0
        for _ in range(search.trials):
            quality = draw.random()
            end = stop = draw.choice(possible) if len(possible) > 1 else possible[0]
            for rung in rungs[: bisect_left(rungs, end)]:
                passes = not seen[rung] or quality >= _quantile(seen[rung], 1 - 1 / factor)
                insort(seen[rung], quality)
                if not passes:
                    stop = rung
                    break
            steps += stop
            reports += sum(each <= stop for each in report_steps[end])
        found.append((steps, reports))
    return found


def _quantile(ranked: list[float], share: float) -> float:
    """Returns the quantile `share` of sorted values, interpolated linearly."""
    at = (len(ranked) - 1) * share
    low = math.floor(at)
    return ranked[low] + (ranked[min(low + 1, len(ranked) - 1)] - ranked[low]) * (at - low)
