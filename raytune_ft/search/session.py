"""What the steps of one driver's search share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.search.search import Search
from raytune_ft.events.kinds import Listener
from raytune_ft.paths import RunDirectory
from raytune_ft.search.budget.accounts import Accounts
from raytune_ft.search.study.resume import interrupted_trials
from raytune_ft.search.study.study import trial_name

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Session:
    """One driver's search, from the study's opening on.

    Attributes:
        experiment: With a `search` section.
        search: That section.
        run: The run directory.
        study: The open study.
        accounts: The study's budget.
        events: Is told of each event.
        log: Takes lines for the user.
    """

    experiment: Experiment
    search: Search
    run: RunDirectory
    study: optuna.Study
    accounts: Accounts
    events: Listener
    log: Callable[[str], None]

    def ended(self) -> list[str]:
        """The names of the trials that have ended."""
        trials = self.study.get_trials(deepcopy=False)
        return [trial_name(trial.number) for trial in trials if trial.state.is_finished()]

    def left(self) -> int:
        """How many trials the study is to have beyond those that have ended; below 0 where fewer are wanted now."""
        return self.search.trials - len(self.ended())

    def interrupted(self) -> list[optuna.Trial]:
        """The trials that an earlier driver began and nobody ended."""
        return interrupted_trials(self.study)
