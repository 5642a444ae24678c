"""Turns Ray Tune's callbacks into events of the sweep."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

from ray.tune import Callback
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.result import (
    AUTO_RESULT_KEYS,
    DEBUG_METRICS,
    DONE,
    EXPERIMENT_TAG,
    SHOULD_CHECKPOINT,
    TRIAL_ID,
)

from raytune_ft.events.kinds import Listener, Reported, Started
from raytune_ft.metrics.report import of_ray
from raytune_ft.search.study.searcher import PARAMETERS, TRIAL

OF_TUNE = {*AUTO_RESULT_KEYS, *DEBUG_METRICS, DONE, EXPERIMENT_TAG, SHOULD_CHECKPOINT, TRIAL_ID, "time_since_restore"}
"""Keys that Tune adds to a report."""


class Watch(Callback):
    """Sends events for Tune's callbacks; runs in the driver.

    Args:
        events: The listener that gets the events.
        rungs: Steps of the study's rungs, in order.
    """

    def __init__(self, events: Listener, rungs: tuple[int, ...]) -> None:
        self._events, self._rungs = events, rungs
        self._told: dict[str, dict[str, Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Returns no state: Tune pickles its callbacks, but a sweep is resumed from its study."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        name, parameters = trial.config[TRIAL], trial.config[PARAMETERS]
        if self._told.get(name) != parameters:  # else the trial goes on after a pause
            self._told[name] = parameters
            self._events(Started(name, parameters))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "step" in result:
            rung = bisect_right(self._rungs, result["step"])
            report = {key: value for key, value in of_ray(result).items() if key not in OF_TUNE}
            self._events(Reported(trial.config[TRIAL], report | ({"rung": rung} if rung else {})))


class Quiet(TrialProgressCallback):
    """Replaces Tune's own progress callback, as stdout is for the leaderboard.

    Tune's prints, at every verbosity, that a trial is completed which was stopped before its first report.
    """

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        pass
