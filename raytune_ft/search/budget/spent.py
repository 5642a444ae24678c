"""Counts what a study has used up, over all of its drivers: hours, device hours, tokens and cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytune_ft.config.search.budget import Budget
from raytune_ft.paths import read_json, write_json

SCHEMA = 1
_COUNTS = ("step", "tokens", "time", "seconds")
"""Keys of a report that show whether it is the previous one, repeated."""


@dataclass(frozen=True)
class Spent:
    """What a study has used up.

    Attributes:
        hours: How long drivers have run the sweep.
        device_hours: Hours times the devices that worker groups held.
        tokens: How many tokens were trained.
        cost: Device hours times their price; None where a device has no price.
    """

    hours: float = 0.0
    device_hours: float = 0.0
    tokens: int = 0
    cost: float | None = None


def limits_reached(budget: Budget, spent: Spent) -> dict[str, str]:
    """Returns the limits that are reached: setting -> words, e.g. `the budget's 1,000,000 tokens are used up`."""
    limits = (
        ("tokens", budget.tokens, spent.tokens, "{:,} tokens are"),
        ("hours", budget.hours, spent.hours, "{:g} hours are"),
        ("device_hours", budget.device_hours, spent.device_hours, "{:g} device hours are"),
        ("cost", budget.cost, spent.cost, "cost of {:g} is"),
    )
    return {
        name: f"the budget's {words.format(limit)} used up"
        for name, limit, used, words in limits
        if limit is not None and used is not None and used >= limit
    }


def used_up(budget: Budget, spent: Spent) -> str | None:
    """Returns the first limit that is reached, in words; None while none is."""
    return next(iter(limits_reached(budget, spent).values()), None)


class Meter:
    """Counts what a study uses, on from what `path` holds; a killed driver loses the time since the last report.

    Args:
        path: The run's `spent.json`.
        devices: How many devices one worker group holds.
        clock: A monotonic clock, in seconds, as a wall clock may jump.

    Attributes:
        price: The price of one device hour; None where it is unknown.
        closed: Why an earlier driver closed the study for good, or None.
    """

    def __init__(self, path: Path, devices: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._devices, self._clock = path, devices, clock
        self.price: float | None = None
        before: dict[str, Any] = read_json(path) if path.is_file() else {}
        self.closed: str | None = before.get("closed")
        self._seconds = 3600.0 * before.get("hours", 0.0)
        self._device_seconds = 3600.0 * before.get("device_hours", 0.0)
        self._cost: float | None = before.get("cost")
        self._tokens = int(before.get("tokens", 0))
        self._reported: dict[str, dict[str, Any]] = before.get("reported", {})
        self._groups: set[str] = set()
        self._looked = clock()
        self._lock = threading.RLock()  # lanes come up in a thread of their own

    @property
    def spent(self) -> Spent:
        """What is used up to now."""
        with self._lock:
            self._count()
            return Spent(self._seconds / 3600.0, self._device_seconds / 3600.0, self._tokens, self._cost)

    def group_up(self, name: str) -> None:
        """Counts a worker group's devices from now on."""
        with self._lock:
            self._count()
            self._groups.add(name)

    def group_down(self, name: str) -> None:
        """Stops counting a worker group's devices."""
        with self._lock:
            self._count()
            self._groups.discard(name)

    def reported(self, trial: str, report: Mapping[str, Any]) -> None:
        """Counts the tokens that were trained since the trial's last report; a repeated report counts once."""
        if "step" not in report:
            return
        this = {key: report.get(key) for key in _COUNTS}
        last = self._reported.get(trial)
        if this == last:
            return
        self._tokens += _trained(report, last or {})
        self._reported[trial] = this
        self.write()

    def ended(self, trial: str) -> None:
        """Forgets the trial's last report, as none follows."""
        self._reported.pop(trial, None)

    def write(self) -> None:
        """Writes the counts to `spent.json`, for the next driver and other readers."""
        now = self.spent
        write_json(
            self._path,
            {
                "schema": SCHEMA,
                "hours": now.hours,
                "device_hours": now.device_hours,
                "tokens": now.tokens,
                "cost": now.cost,
                "closed": self.closed,
                "reported": self._reported,
            },
        )

    def _count(self) -> None:
        now = self._clock()
        passed, self._looked = max(0.0, now - self._looked), now
        held = passed * self._devices * len(self._groups)
        self._seconds += passed
        self._device_seconds += held
        if self.price is not None:
            self._cost = (self._cost or 0.0) + held / 3600.0 * self.price


def shared_group(number: int) -> str:
    """Returns the meter's name for a worker group that all trials share."""
    return f"lane {number}"


def _trained(report: Mapping[str, Any], last: Mapping[str, Any]) -> int:
    """Returns the tokens trained since the previous report: what the worker says, else the growth of its count."""
    if (known := report.get("trained_tokens")) is not None:
        return max(0, int(known))
    tokens, before = int(report.get("tokens") or 0), int(last.get("tokens") or 0)
    if tokens < before and (report["step"] or 0) > (last.get("step") or 0):  # the count restarted with the workers
        return tokens
    return max(0, tokens - before)
