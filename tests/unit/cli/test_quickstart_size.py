"""The quickstart's sweep is as large as the machine allows, and a run that was begun keeps its size."""

from __future__ import annotations

from pathlib import Path

import pytest

from raytune_ft.cli import quickstart_size
from raytune_ft.cli.quickstart_size import SIZES, sized_for_this_machine
from raytune_ft.config.files.resolve import resolved_yaml
from raytune_ft.config.load import load_experiment
from raytune_ft.hardware import here
from raytune_ft.hardware.device import Device
from raytune_ft.paths import write_text

FAST = Device("a fast CPU (amx_bf16)", gflops={"bfloat16": 2000.0, "float16": 100.0, "float32": 400.0})
SLOW = Device("an old CPU (avx2)", gflops={"bfloat16": 6.0, "float16": 6.0, "float32": 36.0})


@pytest.fixture
def quickstart(toy_experiment) -> str:
    return str(toy_experiment())


def sizes(quickstart: str) -> tuple[int, int, str]:
    experiment, why = sized_for_this_machine(quickstart)
    assert experiment.search is not None
    return experiment.search.trials, experiment.train.max_steps, why


def test_a_fast_machine_does_the_whole_of_it_and_a_slow_one_less(quickstart: str, monkeypatch) -> None:
    monkeypatch.setattr(here, "cpu_here", lambda threads: FAST)
    assert sizes(quickstart)[:2] == (SIZES[0]["search.trials"], SIZES[0]["train.max_steps"])
    monkeypatch.setattr(here, "cpu_here", lambda threads: SLOW)
    monkeypatch.setattr(quickstart_size, "SWEEP_S", 0.001)
    trials, steps, why = sizes(quickstart)
    assert (trials, steps) == (SIZES[-1]["search.trials"], SIZES[-1]["train.max_steps"])
    words = f"an old CPU (avx2): 36 GFLOP/s a core in float32, so {trials} trials of at most {steps} steps, about 1 min"
    assert why == words


def test_a_run_that_was_begun_keeps_its_size(quickstart: str, monkeypatch) -> None:
    """On another machine too, whatever that would do."""
    begun = load_experiment(quickstart, [f"{key}={value}" for key, value in SIZES[1].items()])
    run = begun.run_directory
    run.trials.mkdir(parents=True)
    write_text(run.experiment, resolved_yaml(begun))
    monkeypatch.setattr(here, "cpu_here", lambda threads: SLOW)
    experiment, _ = sized_for_this_machine(quickstart)
    assert experiment == begun


def test_sizes_get_smaller_and_the_first_is_the_files_own() -> None:
    shipped = load_experiment(Path(__file__).parents[3] / "experiments" / "quickstart.yaml")
    assert shipped.search is not None and shipped.search.trials == SIZES[0]["search.trials"]
    assert shipped.train.max_steps == SIZES[0]["train.max_steps"]
    for key in SIZES[0]:
        assert [size[key] for size in SIZES] == sorted((size[key] for size in SIZES), reverse=True)
