"""Trains every configuration of the grid for real, as a sweep of its own, and keeps the curves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from measures.rounds import machine

from quality.curves import DIRECTORY
from raytune_ft.metrics.report import value_in
from raytune_ft.paths import RunDirectory, read_json, write_json
from raytune_ft.training.metrics_log import read_metrics
from raytune_ft.training.outcome import Outcome

ROOT = Path(__file__).parents[2]
GRID = ROOT / "benchmarks" / "quality" / "grid.yaml"


def record(data: str) -> Path:
    """Sweeps the grid on `assets/data/<data>.train.jsonl`, goes on where it was stopped, and writes the curves.

    Raises:
        subprocess.CalledProcessError: The sweep failed; it has said why.
    """
    run = RunDirectory(ROOT / "runs" / f"grid-{data}")
    settings = {"name": run.root.name, "data.train": f"assets/data/{data}.train.jsonl"}
    command = [sys.executable, "-m", "raytune_ft", "sweep", str(GRID)]
    command += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    subprocess.run(command + (["--resume"] if run.trials.is_dir() else []), cwd=ROOT, check=True)
    return keep(run, data)


def keep(run: RunDirectory, data: str) -> Path:
    """Writes `curves/<data>.json` out of the trials of a run that ended; a sweep that was stopped left some."""
    path = DIRECTORY / f"{data}.json"
    names = sorted(each.name for each in run.trials.iterdir() if Outcome.read(run.trial(each.name)))
    manifest = read_json(run.data / "manifest.json")
    write_json(
        path,
        {
            "schema": 1,
            "machine": machine(),
            "data": data,
            "fingerprint": manifest["fingerprint"],
            "validation_rows": manifest["splits"]["validation"]["rows"],
            "report": ["step", "tokens", "eval_loss", "seconds"],
            "trials": [_trial(run, name) for name in names],
        },
    )
    return path


def _trial(run: RunDirectory, name: str) -> dict[str, Any]:
    trial = run.trial(name)
    outcome = Outcome.read(trial)
    assert outcome is not None  # such a trial's name is not among the ones asked for
    return {
        "parameters": read_json(trial.config)["parameters"],
        "outcome": str(outcome.kind),
        "reports": [
            [report["step"], report["tokens"], value_in(report, "eval_loss"), report["seconds"]]
            for report in read_metrics(trial.metrics)
        ],
    }
