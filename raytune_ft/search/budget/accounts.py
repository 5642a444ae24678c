"""Gives the sweep one object for a study's budget, for what it has used of it, and for its forecast (`plan.json`)."""

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
    """Counts what the study uses, from before the first trial until the driver ends.

    Args:
        experiment: The experiment, with a `search` section.
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
        """Returns whether a limit is reached."""
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
        """Writes `plan.json`, unless an earlier driver did.

        Args:
            decision: The study's number type and devices.
            groups: Number of worker groups that all trials share; 0 where each trial has its own.
        """
        self._plan_log.plan(decision, groups)

    def price(self) -> None:
        """Looks up the price of the cluster's devices; raises InputError if a limited cost lacks a price."""
        self._meter.price = device_price(self._experiment)

    def heard(self, event: Event) -> None:
        """Passes an event on to the log that adds a forecast to `plan.json`; is a listener of the sweep's events."""
        self._plan_log(event)

    def count(self, trial: str, report: Mapping[str, Any]) -> None:
        """Counts a report that an earlier driver was killed before counting."""
        self._meter.reported(trial, report)

    @contextmanager
    def groups(self, count: int) -> Iterator[None]:
        """Counts `count` worker groups, which all trials share, as running for the length of the block."""
        names = [shared_group(number) for number in range(count)]
        for name in names:
            self._meter.group_up(name)
        try:
            yield
        finally:
            for name in names:
                self._meter.group_down(name)

    def attend(self, scheduler: Any, trials: Trials) -> tuple[Any, ...]:
        """Makes `stop`, has `scheduler` obey it, and returns the Tune callbacks that count what trials use."""
        from raytune_ft.search.budget.budget_stop import BudgetStop, Metering

        self.stop = BudgetStop(self._search.budget, self._meter)
        self.stop.watch(scheduler)
        self._plan_log.shared_groups(trials.groups)
        return (Metering(self._meter, self._run, trials),)

    def close(self, finished: int) -> str:
        """Closes the study for good, as its budget is used up; returns a line for a person."""
        self._meter.closed = self.reason
        self._meter.write()
        return f"{self.reason} ({self.words()}); closed with {finished} of {self._search.trials} trials"

    def write(self) -> None:
        """Writes what is used up so far to `spent.json`."""
        self._meter.write()

    def words(self) -> str:
        """Returns what is used up, in words, e.g. `1,023,456 tokens, 0.51 hours, 0.51 device hours`."""
        spent = self._meter.spent
        parts = [f"{spent.tokens:,} tokens", f"{spent.hours:.2f} hours", f"{spent.device_hours:.2f} device hours"]
        return ", ".join([*parts, f"cost {spent.cost:.2f}"] if spent.cost is not None else parts)
