"""Keeps the weights of trials that may still win, at their best checkpoint, and removes all others from disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Literal

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.search.goals import Metric
from raytune_ft.config.search.schedulers import Population
from raytune_ft.paths import RunDirectory, read_json
from raytune_ft.search.results.goals import goals_of
from raytune_ft.search.results.leaderboard import in_order, row_of
from raytune_ft.search.results.rows import LeaderboardRow
from raytune_ft.training.ended import drop_optimizers, keep_weights
from raytune_ft.training.metrics_log import read_metrics
from raytune_ft.training.outcome import OutcomeKind


def may_still_win(
    rows: Sequence[LeaderboardRow], goals: Sequence[Metric], best: str | None, keep: int | Literal["all"]
) -> set[str]:
    """Returns the names of the ended trials whose weights stay.

    A trial that is dominated (another one equals it in every goal and beats it in one) never wins, whatever trials
    follow. So with several goals the whole Pareto front stays, as a new trial may move the limit of `search.best` from
    one of it to another. A new trial may also beat many of the front at once, and the best ones off the front come
    next: so `keep` of these stay as well.

    Args:
        rows: Rows of the leaderboard, in any order.
        goals: The study's goals.
        best: The rule that picks the winner among several goals.
        keep: How many of the first places stay in any case; with several goals, of those off the front.
    """
    by_name = sorted(rows, key=lambda row: row.trial)  # the leaderboard's order among equal ones
    ranked = [row for row in in_order(by_name, goals, best) if row.rank is not None]
    if keep == "all":
        return {row.trial for row in ranked}
    counted = [row for row in ranked if not row.front] if len(goals) > 1 else ranked
    return {row.trial for row in (*counted[:keep], *(row for row in ranked if row.front))}


class KeptCheckpoints:
    """Removes what is no longer needed as trials end: optimizers, and the weights of trials that can't win any more.

    Trials of a population may copy one that has ended, so all of their checkpoints stay until the study has ended.
    Workers of a stopped trial may still be at their next report: they copy the checkpoint, then write its line to
    `metrics.jsonl`. So until the study has ended, no checkpoint later than the last line is removed, and a trial is
    looked at again when others end after it. A failed trial's weights stay, without optimizers, until another trial has
    won.

    Args:
        experiment: The experiment, with a `search` section.
        run: The run directory.
        finished: Names of the trials that ended under an earlier driver.
    """

    def __init__(self, experiment: Experiment, run: RunDirectory, finished: Sequence[str]) -> None:
        search = experiment.search
        assert search is not None
        self._run, self._goals, self._best = run, goals_of(experiment), search.best
        self._keep, self._copying = search.keep_checkpoints, isinstance(search.scheduler, Population)
        # `evaluate` and `promote` take this trial until there is another winner.
        self._winner = str(read_json(run.winner).get("trial")) if run.winner.is_file() else None
        self._lines: dict[str, int] = {}  # trial -> step of the last line that its row is based on
        self._kept = _there(self._rows(finished))
        self._before: deque[str] = deque(maxlen=search.max_concurrent)

    def ended(self, trial: str) -> None:
        """Removes what is not needed after this trial's end; is called once its outcome is written."""
        if not self._copying:
            self._settle(self._rows([*self._before, trial]))
            self._before.append(trial)

    def study_ended(self, board: Sequence[LeaderboardRow]) -> None:
        """Removes what is not needed after the study's end, once `winner.json` is written; also called after a crash.

        Args:
            board: The leaderboard that the winner was taken from; a new one might name other best checkpoints.
        """
        self._winner = None
        self._settle({row.trial: row for row in board}, over=True)

    def _settle(self, rows: Mapping[str, LeaderboardRow], *, over: bool = False) -> None:
        self._kept = {trial: row for trial, row in self._kept.items() if trial not in rows} | _there(rows)
        staying = may_still_win(list(self._kept.values()), self._goals, self._best, self._keep)
        for trial in {*rows, *self._kept} - staying - {self._winner}:
            self._kept.pop(trial, None)
            if not over and trial in rows and rows[trial].outcome == OutcomeKind.failed:
                drop_optimizers(self._run.trial(trial))
            else:
                keep_weights(self._run.trial(trial), None, None if over else self._lines[trial])
        for trial in rows.keys() & self._kept.keys():
            checkpoint = (self._kept[trial].checkpoint or "").rpartition("/")[2]
            keep_weights(self._run.trial(trial), checkpoint, None if over else self._lines[trial])

    def _rows(self, trials: Sequence[str]) -> dict[str, LeaderboardRow]:
        """Returns the leaderboard's rows of those trials that ended; the others will be resumed."""
        rows = {}
        for trial in trials:
            reports = read_metrics(self._run.trial(trial).metrics)  # before the row: what comes in between stays
            self._lines[trial] = max((int(report["step"]) for report in reports), default=-1)
            if (row := row_of(self._run, trial, self._goals)) is not None:
                rows[trial] = row
        return rows


def _there(rows: Mapping[str, LeaderboardRow]) -> dict[str, LeaderboardRow]:
    return {trial: row for trial, row in rows.items() if row.checkpoint is not None}
