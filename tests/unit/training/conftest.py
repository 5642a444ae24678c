"""A lane in this process, without Ray: its orders come from a script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.load import load_experiment, with_parameters
from raytune_ft.config.training import Lane
from raytune_ft.metrics.report import value_in
from raytune_ft.objectives.prepared import prepare
from raytune_ft.paths import RunDirectory, read_json
from raytune_ft.training.lane.loop import LaneLoop
from raytune_ft.training.lane.model.base import Base, load_lane_base
from raytune_ft.training.lane.orders import Drop, GoOn, Order, Quit, Start
from raytune_ft.training.lane.ranks import Ranks
from raytune_ft.training.metrics_log import read_metrics
from raytune_ft.training.outcome import Outcome
from raytune_ft.training.spec import TrialSpec


class ScriptedDesk:
    """Hands out trials in order, as many as the lane takes, and lets each go on until `drops` says where to stop."""

    def __init__(self, starts: Sequence[Start], drops: dict[str, int] | None = None) -> None:
        self._starts, self._drops = list(starts), drops or {}
        self._ready: list[Order] = []
        self._running: set[str] = set()
        self.cut_off = False
        self.reports: dict[str, list[dict[str, Any]]] = {}
        self.outcomes: dict[str, Outcome] = {}

    def in_touch(self) -> bool:
        return not self.cut_off

    def orders(self, free: int, wait_s: float) -> list[Order]:
        if self.cut_off:
            return [Quit()]
        found, self._ready = self._ready, []
        while free > 0 and self._starts:
            start = self._starts.pop(0)
            self._running.add(start.spec.trial_id)
            found.append(start)
            free -= 1
        return found if found or self._running else [Quit()]

    def report(self, trial: str, report: dict[str, Any]) -> None:
        self.reports.setdefault(trial, []).append(report)
        if self._drops.get(trial) == report["step"]:
            self._ready.append(Drop(trial))
            self._running.discard(trial)
        else:
            self._ready.append(GoOn(trial))

    def ended(self, trial: str, outcome: Outcome) -> None:
        self.outcomes[trial] = outcome
        self._running.discard(trial)


class LaneWorld:
    """One study's directory and base, on which lanes are run."""

    def __init__(self, experiment: Experiment, root: Path) -> None:
        self.experiment, self.run = experiment, RunDirectory(root)
        prepare(experiment, self.run.data)
        self.settings = experiment.runner if isinstance(experiment.runner, Lane) else Lane(packed=1)
        self.base: Base = load_lane_base(experiment, self.settings.step, share=True)

    def start(self, name: str, copy_from: Path | None = None, **parameters: Any) -> Start:
        """Keys are paths with `__` for the dot."""
        values = {key.replace("__", "."): value for key, value in parameters.items()}
        spec = TrialSpec.of(name, values, with_parameters(self.experiment, values), self.run)
        return Start(spec, copy_from)

    def lane(self, *starts: Start, drops: dict[str, int] | None = None, packed: int = 1) -> ScriptedDesk:
        """Runs one lane until the script ends."""
        desk = self.desk(*starts, drops=drops)
        self.work(desk, packed)
        return desk

    def desk(self, *starts: Start, drops: dict[str, int] | None = None) -> ScriptedDesk:
        return ScriptedDesk(starts, drops)

    def work(self, desk: ScriptedDesk, packed: int = 1) -> None:
        """What one lane does until the desk says Quit."""
        settings = self.settings.model_copy(update={"packed": packed})
        LaneLoop(self.base, desk, Ranks(), settings, self.experiment).run()

    def losses(self, name: str) -> list[tuple[int, float, float]]:
        """Step, mean training loss and eval_loss of each report."""
        reports = read_metrics(self.run.trial(name).metrics)
        return [(each["step"], each["train_loss"], value_in(each, "eval_loss")) for each in reports]

    def outcome(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = read_json(self.run.trial(name).outcome)
        return found


@pytest.fixture
def lane_world(
    toy_experiment: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., LaneWorld]:
    """Makes a world; keyword arguments replace top-level keys of the toy experiment."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # of copies of the base in another type

    def make(**changes: Any) -> LaneWorld:
        train = {
            "learning_rate": 1e-2,
            "per_device_train_batch_size": 8,
            "max_steps": 6,
            "eval_steps": 2,
            "dtype": "float32",
        }
        values = {"train": train | changes.pop("train", {}), "search": None, **changes}
        return LaneWorld(load_experiment(toy_experiment(**values)), tmp_path / "world")

    return make
