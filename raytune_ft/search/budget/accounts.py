"""A study's budget, what it has used of it, and what it was forecast to use: the sweep's one handle on the three."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.search.search import Search
from raytune_ft.errors import InputError
from raytune_ft.events.kinds import Event
from raytune_ft.paths import RunDirectory
from raytune_ft.search.budget.plan_log import PlanLog
from raytune_ft.search.budget.spent import Meter, limits_reached, shared_group, used_up
from raytune_ft.search.planning.prices import device_price, devices_of_group

if TYPE_CHECKING:
    from raytune_ft.execution.devices import Decision
    from raytune_ft.search.budget.budget_stop import BudgetStop
    from raytune_ft.search.trials.trials import Trials


class Accounts:
    """Counts what the study uses, from before anything starts until the driver ends.

    Args:
        experiment: With a `search` section.
        search: That section.
        run: The run directory.

    Attributes:
        stop: The stopper that ends the study when its budget is used up; None until trials are about to run.
    """

    def __init__(self, experiment: Experiment, search: Search, run: RunDirectory) -> None:
        self._experiment, self._search, self._run = experiment, search, run
        self._meter = Meter(run.spent, devices_of_group(experiment.resources))
        self._plan_log = PlanLog(experiment, run, self._meter)
        self.stop: BudgetStop | None = None

    @property
    def reason(self) -> str | None:
        """Which limit is reached, in words, or None."""
        return self.stop.reason if self.stop else used_up(self._search.budget, self._meter.spent)

    def used_up(self) -> bool:
        """Whether a limit is reached."""
        return self.reason is not None

    def check_open(self, finished: int) -> None:
        """Raises InputError where an earlier driver closed the study, and its budget was not raised since."""
        reached = limits_reached(self._search.budget, self._meter.spent)
        if self._meter.closed and reached:
            where = f"search.budget: study {self._experiment.name}"
            why = f"{' and '.join(reached.values())} ({self.words()})"
            what = f"is closed with {finished} of {self._search.trials} trials, as {why}"
            raise InputError(where, what, f"raise {' and '.join(f'search.budget.{name}' for name in reached)} to go on")
        self._meter.closed = None

    def plan(self, decision: Decision, groups: int) -> None:
        """Leaves `plan.json`, unless an earlier driver did; `groups` share all trials, 0 where each has its own."""
        self._plan_log.plan(decision, groups)

    def price(self) -> None:
        """Takes the prices of the cluster's devices; raises InputError where a limited cost has none."""
        self._meter.price = device_price(self._experiment)

    def heard(self, event: Event) -> None:
        """A listener that keeps `plan.json` true."""
        self._plan_log(event)

    def count(self, trial: str, report: Mapping[str, Any]) -> None:
        """Counts a report that an earlier driver did not live to count."""
        self._meter.reported(trial, report)

    @contextmanager
    def groups(self, count: int) -> Iterator[None]:
        """Worker groups that all trials share are up for the length of the block."""
        names = [shared_group(number) for number in range(count)]
        for name in names:
            self._meter.group_up(name)
        try:
            yield
        finally:
            for name in names:
                self._meter.group_down(name)

    def attend(self, scheduler: Any, trials: Trials) -> tuple[Any, ...]:
        """Has `scheduler` heed the budget, and returns Tune's callbacks that keep the accounts; makes `stop`."""
        from raytune_ft.search.budget.budget_stop import BudgetStop, Metering

        self.stop = BudgetStop(self._search.budget, self._meter)
        self.stop.watch(scheduler)
        self._plan_log.shared_groups(trials.groups)
        return (Metering(self._meter, self._run, trials),)

    def close(self, finished: int) -> str:
        """The budget is used up and the study closed for good; returns a line for a person."""
        self._meter.closed = self.reason
        self._meter.write()
        return f"{self.reason} ({self.words()}); closed with {finished} of {self._search.trials} trials"

    def write(self) -> None:
        """Leaves what is used up so far."""
        self._meter.write()

    def words(self) -> str:
        """What is used up, of those that are limited, e.g. `1,023,456 tokens, 0.51 hours`."""
        spent = self._meter.spent
        parts = [f"{spent.tokens:,} tokens", f"{spent.hours:.2f} hours", f"{spent.device_hours:.2f} device hours"]
        return ", ".join([*parts, f"cost {spent.cost:.2f}"] if spent.cost is not None else parts)
