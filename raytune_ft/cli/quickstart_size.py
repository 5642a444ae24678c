"""Chooses the size of the quickstart's sweep, so that it takes a few minutes on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raytune_ft.config.experiment import Experiment

SWEEP_S = 110.0
"""Longest sweep, in seconds as the plan estimates it."""
SIZES = (
    {"search.trials": 8, "train.max_steps": 45, "data.max_validation_rows": 96},
    {"search.trials": 6, "train.max_steps": 45, "data.max_validation_rows": 64},
    {"search.trials": 5, "train.max_steps": 36, "data.max_validation_rows": 64},
    {"search.trials": 4, "train.max_steps": 30, "data.max_validation_rows": 48},
    {"search.trials": 3, "train.max_steps": 30, "data.max_validation_rows": 32},
)
"""The experiment file's own size, then smaller ones; even the smallest beats the base by more than chance."""


def sized_for_this_machine(path: str) -> tuple[Experiment, str]:
    """Returns the quickstart's experiment in the largest size that this machine allows, and a line that says why.

    A run that was begun keeps its size.
    """
    from raytune_ft.config.load import load_experiment
    from raytune_ft.hardware.device import common_type
    from raytune_ft.hardware.here import cpu_here
    from raytune_ft.search.planning.plan import plan_sweep

    whole = load_experiment(path)
    if whole.run_directory.trials.is_dir():
        return _as_begun(path, whole), "goes on with the run that is there"
    device = cpu_here(1)
    number_type = common_type([device])
    speed = f"{device.name}: {device.gflops[number_type]:.0f} GFLOP/s a core in {number_type}"
    for size in SIZES:
        sized = load_experiment(path, [f"{key}={value}" for key, value in size.items()])
        hours = plan_sweep(sized.computing_in(number_type), device).hours
        if hours is not None and 3600 * hours.likely <= SWEEP_S:
            break
    takes = f", about {max(1, round(60 * hours.likely))} min" if hours is not None else ""
    what = f"{size['search.trials']} trials of at most {size['train.max_steps']} steps{takes}"
    return sized, f"{speed}, so {what}"


def _as_begun(path: str, whole: Experiment) -> Experiment:
    import yaml

    from raytune_ft.config.files.overrides import value_at
    from raytune_ft.config.load import load_experiment

    begun = yaml.safe_load(whole.run_directory.experiment.read_text(encoding="utf-8"))
    return load_experiment(path, [f"{key}={value_at(begun, key)}" for key in SIZES[0]])
