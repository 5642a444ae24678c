"""Ray Tune's trial function for isolated trials: hands the configuration to the runner, and waits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.load import with_parameters
from raytune_ft.errors import InputError
from raytune_ft.execution.failures import failed
from raytune_ft.paths import RunDirectory
from raytune_ft.training.spec import TrialSpec


def run_tune_trial(config: dict[str, Any], experiment: dict[str, Any], run: str, cwd: str) -> None:
    """Ray Tune's trial function: a light proxy that trains with the runner's workers and forwards their reports.

    Args:
        config: `{"trial": "0003", "parameters": {...}}`, from the searcher.
        experiment: The experiment, as plain values.
        run: Path of the run directory.
        cwd: The working directory that relative paths in the experiment refer to.
    """
    from ray.tune.integration.ray_train import TuneReportCallback

    from raytune_ft.execution.isolated import run_isolated

    os.chdir(cwd)
    run_directory = RunDirectory(Path(run))
    trial = run_directory.trial(config["trial"])
    try:
        resolved = with_parameters(Experiment.model_validate(experiment), config["parameters"])
    except InputError as error:
        failed(str(error)).write(trial)
        return
    spec = TrialSpec.of(config["trial"], config["parameters"], resolved, run_directory)
    run_isolated(spec, [TuneReportCallback()])
