"""Ends trials that an earlier driver left open, and that will not be trained any more."""

from __future__ import annotations

from raytune_ft.execution.failures import failed
from raytune_ft.search.scheduling.replay import decide_unseen
from raytune_ft.search.session import Session
from raytune_ft.search.study.study import tell, trial_name
from raytune_ft.search.trials.decide import decide_outcome, steps_of
from raytune_ft.search.trials.ends import last_report
from raytune_ft.training.outcome import Outcome


def end_what_earlier_drivers_left(session: Session) -> None:
    """Ends the open trials that the scheduler stops at an unseen report, and those beyond the number wanted now."""
    for name in decide_unseen(session.experiment, session.search, session.run, session.study, session.accounts.count):
        line = f"trial {name} was behind at its last report, which the driver before did not live to see: stopped"
        session.log(line)
    for surplus in session.interrupted()[max(session.left(), 0) :]:
        directory = session.run.trial(trial_name(surplus.number))
        outcome = Outcome.read(directory) or failed("interrupted, and not wanted any more")
        outcome.write(directory)
        tell(session.study, surplus, outcome)


def end_interrupted(session: Session) -> None:
    """Ends the open trials of a driver that was killed or stopped after the budget was used up."""
    for trial in session.interrupted():
        name = trial_name(trial.number)
        directory = session.run.trial(name)
        outcome = decide_outcome(
            Outcome.read(directory),
            last_report(session, name),
            session.search,
            steps_of(session.experiment, directory),
            session.accounts.reason,
        )
        outcome.write(directory)
        tell(session.study, trial, outcome)
