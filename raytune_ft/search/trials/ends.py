"""Records the end of each trial that Ray Tune is done with."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from raytune_ft.events.kinds import Ended
from raytune_ft.search.trials.decide import decide_outcome, steps_of
from raytune_ft.search.trials.kept_checkpoints import KeptCheckpoints
from raytune_ft.training.metrics_log import read_metrics
from raytune_ft.training.outcome import Outcome

if TYPE_CHECKING:
    from raytune_ft.search.session import Session
    from raytune_ft.search.trials.trials import Trials


class TrialEnds:
    """Decides how each trial ended, writes its outcome, and frees what the trial held.

    Args:
        session: The search's session.
        trials: How its trials train.
        kept: Removes the weights of trials that can't win any more.
        resumed: Names of the trials that an earlier driver began.
    """

    def __init__(self, session: Session, trials: Trials, kept: KeptCheckpoints, resumed: Collection[str]) -> None:
        self._session, self._trials, self._kept, self._resumed = session, trials, kept, resumed

    def outcome_of(self, name: str, result: dict[str, Any] | None) -> Outcome:
        """Decides how the trial ended, and writes its outcome, tells listeners of it and returns it.

        Args:
            name: The name of the trial.
            result: The last result that Tune has of it, or None.
        """
        session, directory = self._session, self._session.run.trial(name)
        outcome = decide_outcome(
            Outcome.read(directory),
            self._last(name, result or {}),
            session.search,
            steps_of(session.experiment, directory),
            session.accounts.reason,
        )
        outcome.write(directory)
        self._trials.ended(name)
        self._kept.ended(name)
        session.events(Ended(name, outcome))
        return outcome

    def _last(self, name: str, result: dict[str, Any]) -> dict[str, Any]:
        """Returns the trial's last report: Tune's, or the one on disk.

        Once the budget is used up, Tune ends trials that were paused or not begun without a result.
        """
        if result.get("step") or not self._session.accounts.used_up():
            return result
        return last_report(self._session, name)

    def curve_of(self, name: str) -> list[dict[str, Any]]:
        """Returns all reports with a checkpoint of a trial that an earlier driver began, which may have missed some."""
        reports = read_metrics(self._session.run.trial(name).metrics) if name in self._resumed else []
        return [report for report in reports if report.get("checkpoint")]


def last_report(session: Session, name: str) -> dict[str, Any]:
    """Returns the last line of the trial's `metrics.jsonl`; {} if there is none."""
    return (read_metrics(session.run.trial(name).metrics) or [{}])[-1]
