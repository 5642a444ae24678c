"""A sweep of eight trials by one seed is as it was: its study, events, board, trials, comparison and version."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna

from raytune_ft import api
from raytune_ft.events.kinds import Ended, Event, Reported, Started
from raytune_ft.events.log import read_events
from raytune_ft.metrics.report import for_ray, value_in
from raytune_ft.paths import RunDirectory, read_json
from raytune_ft.training.metrics_log import read_metrics

RATE, RANK = "train.learning_rate", "method.r"
REPORT = ("step", "samples", "tokens", "train_loss", "eval_loss")
SEARCH = {
    "space": {
        "parameters": {RATE: {"loguniform": [1e-4, 3e-2]}, RANK: {"choice": [2, 4, 8]}},
        "start_from": [{RATE: 1e-2, RANK: 8}, {RATE: 1e-4, RANK: 2}],
    },
    "algorithm": {"type": "tpe", "seed": 5, "n_startup_trials": 4},
    "scheduler": {"type": "asha", "grace_period": 2, "reduction_factor": 2},
    "trials": 8,
    "max_concurrent": 1,
}
TRAIN = {"per_device_train_batch_size": 8, "max_steps": 8, "dtype": "float32"}
OF_THE_MOMENT = {"created", "seconds", "sha256", "files", "command", "versions", "time", "generated"}


class Recorder:
    """Writes down what a sweep told its watcher, in order."""

    def __init__(self) -> None:
        self.events: list[list[Any]] = []

    def __call__(self, event: Event) -> None:
        match event:
            case Started(trial, parameters):
                self.events.append(["started", trial, parameters])
            case Reported(trial, report):
                self.events.append(["reported", trial, report["step"], value_in(report, "eval_loss")])
            case Ended(trial, outcome):
                self.events.append(["ended", trial, str(outcome.kind), outcome.reason, outcome.value])


def test_a_sweep_of_eight_trials_is_as_before(
    cluster: None, golden: Callable[..., None], toy_experiment: Callable[..., Path], tmp_path: Path, tiny_llama: Path
) -> None:
    recorder, hidden = Recorder(), {str(tmp_path): "TMP", str(tiny_llama): "MODEL"}
    experiment = api.load_experiment(toy_experiment(search=SEARCH, train=TRAIN))
    result = api.run_sweep(experiment, listener=recorder)

    told = [line for line in read_events(result.run.events) if line["event"] != "progressed"]
    assert [line["event"] for line in told] == [*(event[0] for event in recorder.events), "closed"]
    golden("sweep-study", study(result.run), hidden)
    golden("sweep-events", recorder.events, hidden)
    golden("sweep-leaderboard", steady(read_json(result.run.leaderboard)), hidden)
    golden("sweep-winner", steady(read_json(result.run.winner)), hidden)
    trials = {path.name: trial(result.run, path.name) for path in sorted(result.run.trials.iterdir())}
    golden("sweep-trials", trials, hidden)

    api.evaluate(result.run, log=lambda line: None)
    golden("sweep-evaluation", steady(read_json(result.run.evaluation)), hidden)
    promoted = api.promote(result.run, force=True, skip=["parity"], log=lambda line: None)
    manifest = read_json(promoted.path / "manifest.json")
    base = manifest["base_sha256"]  # CPUs draw other last bits
    golden("sweep-manifest", steady(manifest), {**hidden, base: "SHA", base[:12]: "SHA"})


def study(run: RunDirectory) -> list[Any]:
    trials = optuna.load_study(study_name="toy", storage=f"sqlite:///{run.study}").trials
    return [[each.number, each.state.name, each.params, each.value, each.intermediate_values] for each in trials]


def trial(run: RunDirectory, name: str) -> dict[str, Any]:
    directory = run.trial(name)
    reports = [[for_ray(report).get(key) for key in REPORT] for report in read_metrics(directory.metrics)]
    kept = sorted(path.name for path in directory.checkpoints.glob("*"))
    return {"reports": reports, "outcome": steady(read_json(directory.outcome)), "checkpoints": kept}


def steady(value: Any) -> Any:
    """Without times and what hangs on them."""
    if isinstance(value, dict):
        return {key: steady(each) for key, each in value.items() if key not in OF_THE_MOMENT}
    return [steady(each) for each in value] if isinstance(value, list) else value
