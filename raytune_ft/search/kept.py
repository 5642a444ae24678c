"""Which trials' weights stay on disk: those that may still win, at the checkpoint that the leaderboard names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.goals import Metric
from raytune_ft.config.schedulers import Population
from raytune_ft.paths import RunDirectory, read_json
from raytune_ft.search.goals import goals_of
from raytune_ft.search.leaderboard import Row, in_order, row_of
from raytune_ft.training.ended import keep_weights


def may_still_win(
    rows: Sequence[Row], goals: Sequence[Metric], best: str | None, keep: int | Literal["all"]
) -> set[str]:
    """Trials whose weights stay, of those that ended.

    What another trial equals in every goal and beats in one never wins, whoever comes; so with several goals all of the
    front stay, as a new trial may move the limit of `search.best` from one to the other.

    Args:
        rows: Of the leaderboard, in any order.
        goals: The study's.
        best: The rule that picks the winner among several goals.
        keep: So many of the first places stay in any case.
    """
    ranked = [row for row in in_order(rows, goals, best) if row.rank is not None]
    return {row.trial for row in ranked if keep == "all" or row.front or (row.rank or 0) <= keep}


class KeptCheckpoints:
    """Removes what no one asks for as trials end: optimizers, and the weights of those that can't win any more.

    Trials of a population may copy one that has ended, so of these all stay until the study has.

    Args:
        experiment: With a `search` section.
        run: The run directory.
        finished: Trials that ended under an earlier driver.
    """

    def __init__(self, experiment: Experiment, run: RunDirectory, finished: Sequence[str]) -> None:
        search = experiment.search
        assert search is not None
        self._run, self._goals, self._best = run, goals_of(experiment), search.best
        self._keep, self._copying = search.keep_checkpoints, isinstance(search.scheduler, Population)
        # Until there is another winner, it is what `evaluate` and `promote` take.
        self._winner = str(read_json(run.winner).get("trial")) if run.winner.is_file() else None
        self._kept = _there(self._rows(finished))

    def ended(self, trial: str) -> None:
        """The trial's outcome is written, and nobody trains it."""
        if not self._copying:
            self._settle([trial])

    def study_ended(self, trials: Sequence[str]) -> None:
        """All of these have ended, nobody copies any more, and `winner.json` is written; also after a crash."""
        self._winner = None
        self._settle(trials)

    def _settle(self, trials: Sequence[str]) -> None:
        rows = self._rows(trials)
        self._kept |= _there(rows)
        staying = may_still_win(list(self._kept.values()), self._goals, self._best, self._keep)
        for trial in {*rows, *self._kept} - staying - {self._winner}:
            keep_weights(self._run.trial(trial), None)
            self._kept.pop(trial, None)
        for trial in rows.keys() & self._kept.keys():
            keep_weights(self._run.trial(trial), (self._kept[trial].checkpoint or "").rpartition("/")[2])

    def _rows(self, trials: Sequence[str]) -> dict[str, Row]:
        """Of those that ended: one that has not is gone on with."""
        return {trial: row for trial in trials if (row := row_of(self._run, trial, self._goals)) is not None}


def _there(rows: Mapping[str, Row]) -> dict[str, Row]:
    return {trial: row for trial, row in rows.items() if row.checkpoint is not None}
