"""What a trial costs beside its training: one study of many trials that train nothing, through the real sweep."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from measures import trivial_lane
from measures.inputs import BASE, write_rows
from raytune_ft.config.experiment import Experiment
from raytune_ft.events.kinds import Ended, Event

EDGE = 100  # trials at either end that are compared


class Ends:
    """Notes when each trial ended."""

    def __init__(self, said_every: int, say: Callable[[str], None]) -> None:
        self.seconds: list[float] = []
        self.outcomes: dict[str, int] = defaultdict(int)
        self._every, self._say = said_every, say

    def __call__(self, event: Event) -> None:
        if not isinstance(event, Ended):
            return
        self.seconds.append(time.perf_counter())
        self.outcomes[str(event.outcome.kind)] += 1
        if len(self.seconds) % self._every == 0:
            self._say(f"  {len(self.seconds)} trials")


class Shares:
    """Seconds that the driver spends in some methods, of each call; a call inside another counts in both."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def of(self, *methods: tuple[str, type, str]) -> Iterator[None]:
        """Measures them for the length of the block; each is a name, a class and the name of its method."""
        with ExitStack() as patches:
            for name, owner, method in methods:
                patches.enter_context(mock.patch.object(owner, method, self._timed(name, getattr(owner, method))))
            yield

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name].append(time.perf_counter() - began)

        return timed


def measure(directory: Path, trials: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Runs the study in `directory` and returns seconds per trial."""
    import ray
    from optuna.samplers import BaseSampler
    from optuna.study import Study

    from raytune_ft.search import on_cluster, sweep
    from raytune_ft.search.study.searcher import StudySearcher
    from raytune_ft.search.study.study import open_study
    from raytune_ft.search.trials.trials import trials_on

    ray.cloudpickle.register_pickle_by_value(trivial_lane)  # workers can't import a benchmark's file
    experiment = _experiment(directory, trials)
    ends, shares = Ends(EDGE, say), Shares()
    assert experiment.search is not None
    sampler: type[BaseSampler] = type(_sampler_of(experiment, directory))
    asked = ("before_trial", "infer_relative_search_space", "sample_relative", "sample_independent", "after_trial")
    methods = [("sampler", sampler, name) for name in asked]
    methods += [("suggest", StudySearcher, "_suggest"), ("report", StudySearcher, "on_trial_result")]
    methods += [("end", StudySearcher, "on_trial_complete"), ("ask", Study, "ask")]
    no_training = mock.patch.object(on_cluster, "trials_on", partial(trials_on, run_lane=trivial_lane.run_lane))
    with shares.of(*methods), no_training:
        began = time.perf_counter()
        result = sweep.run_sweep(experiment, ends)
        over = time.perf_counter()
    study = open_study(experiment, experiment.search, result.run)
    states = [trial.state.name for trial in study.get_trials(deepcopy=False)]
    if len(states) != trials or not set(states) <= {"COMPLETE", "PRUNED"}:
        raise RuntimeError(f"{len(states)} trials with states {sorted(set(states))}, not {trials} that ended well")
    return summary(ends, shares, began, over)


def _sampler_of(experiment: Experiment, directory: Path) -> Any:
    from raytune_ft.paths import RunDirectory
    from raytune_ft.search.study.study import open_study

    assert experiment.search is not None
    return open_study(experiment, experiment.search, RunDirectory(directory / "probe")).sampler


def summary(ends: Ends, shares: Shares, began: float, over: float) -> dict[str, Any]:
    """Seconds per trial, at the beginning and at the end, and what the driver's parts take of them."""
    gaps = [later - earlier for earlier, later in zip(ends.seconds, ends.seconds[1:], strict=False)]
    edge = min(EDGE, len(gaps) // 2)
    return {
        "trials": len(ends.seconds),
        "outcomes": dict(ends.outcomes),
        "whole_seconds": round(over - began, 1),
        "before_first_end_seconds": round(ends.seconds[0] - began, 1),
        "after_last_end_seconds": round(over - ends.seconds[-1], 1),
        "seconds_per_trial": {
            "median": _rounded(statistics.median(gaps)),
            "p95": _rounded(_quantile(gaps, 0.95)),
            "mean": _rounded(statistics.mean(gaps)),
            "first": _rounded(statistics.median(gaps[:edge])),
            "last": _rounded(statistics.median(gaps[-edge:])),
        },
        "of_it_in_the_driver": {name: _share(values, len(ends.seconds)) for name, values in shares.seconds.items()},
    }


def _share(seconds: Sequence[float], trials: int) -> dict[str, float]:
    """Mean seconds a trial: over all, in the first tenth of the calls and in the last."""
    tenth = max(1, len(seconds) // 10)
    per_call = len(seconds) / trials
    return {
        "mean": _rounded(sum(seconds) / trials),
        "first_tenth": _rounded(statistics.mean(seconds[:tenth]) * per_call),
        "last_tenth": _rounded(statistics.mean(seconds[-tenth:]) * per_call),
    }


def _quantile(values: Sequence[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


def _rounded(seconds: float) -> float:
    return round(seconds, 4)


def _experiment(directory: Path, trials: int) -> Experiment:
    train, validation = write_rows(directory)
    return Experiment.model_validate(
        {
            "name": "overhead",
            "base_model": str(BASE),
            "data": {"train": str(train), "validation": str(validation), "max_length": 128},
            "train": {"max_steps": 9},
            "search": {
                "space": {
                    "parameters": {
                        "train.learning_rate": {"loguniform": [1.0e-5, 1.0e-1]},
                        "method.r": {"choice": [4, 8, 16, 32]},
                        "train.weight_decay": {"uniform": [0.0, 0.1]},
                    }
                },
                "algorithm": {"type": "tpe", "seed": 0},
                "scheduler": {"type": "asha", "grace_period": 1, "reduction_factor": 3},
                "trials": trials,
            },
            "runner": {"type": "lane", "lanes": 1, "packed": 1},
            "tracking": {"tensorboard": False},
            "output_dir": str(directory / "runs"),
        }
    )
