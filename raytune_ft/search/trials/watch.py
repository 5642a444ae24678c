"""Ray Tune's events, passed on to whoever watches the sweep."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

from ray.tune import Callback
from ray.tune.progress_reporter import TrialProgressCallback

from raytune_ft.search.progress import Progress
from raytune_ft.search.study.searcher import PARAMETERS, TRIAL


class Watch(Callback):
    """Runs in the driver."""

    def __init__(self, progress: Progress, rungs: tuple[int, ...]) -> None:
        self._progress, self._rungs = progress, rungs
        self._told: dict[str, dict[str, Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks, and a sweep is resumed from its study."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        name, parameters = trial.config[TRIAL], trial.config[PARAMETERS]
        if self._told.get(name) != parameters:  # else it goes on after a pause
            self._told[name] = parameters
            self._progress.started(name, parameters)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "step" in result:
            rung = bisect_right(self._rungs, result["step"])
            self._progress.reported(trial.config[TRIAL], result | ({"rung": rung} if rung else {}))


class Quiet(TrialProgressCallback):
    """In place of the one that Tune adds of its own, which prints at every verbosity that a trial stopped before its
    first report is completed: stdout is the leaderboard's."""

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        pass
