"""The public Python API is small, light to import, and what the command line calls."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import raytune_ft
from raytune_ft.errors import InputError
from raytune_ft.paths import RunDirectory, write_text

HEAVY = {"torch", "ray", "transformers", "vllm", "optuna", "datasets", "plotly", "pandas", "numpy"}


def test_the_api_has_the_promised_names() -> None:
    verbs = {"load_experiment", "run_sweep", "evaluate", "promote"}
    assert verbs <= set(raytune_ft.__all__)
    for name in raytune_ft.__all__:
        assert callable(getattr(raytune_ft, name)) and getattr(raytune_ft, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'sweep'"):
        _ = raytune_ft.sweep


def test_loading_an_experiment_imports_nothing_heavy(toy_experiment) -> None:
    code = (
        "import sys, raytune_ft; e = raytune_ft.load_experiment(sys.argv[1], ['train.max_steps=3']);"
        "print(e.train.max_steps, *sorted(set(sys.argv[2].split()) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, toy_experiment(), " ".join(HEAVY)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["3"]


def test_a_sweep_checks_model_and_data_before_anything_starts(toy_experiment, tmp_path: Path) -> None:
    experiment = raytune_ft.load_experiment(toy_experiment(base_model=str(tmp_path / "nowhere")))
    with pytest.raises(InputError, match="nowhere"):
        raytune_ft.run_sweep(experiment)
    path = toy_experiment()
    (tmp_path / "data/train.jsonl").write_text("broken\n")
    with pytest.raises(InputError, match=r"train\.jsonl:1: "):
        raytune_ft.run_sweep(raytune_ft.load_experiment(path))
    assert not (tmp_path / "runs").exists()


def test_evaluation_of_a_run_without_a_winner_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no winner\.json; run raytune-ft sweep or train first"):
        raytune_ft.evaluate(tmp_path)


def test_evaluation_without_a_test_split_is_refused(toy_experiment, tmp_path: Path) -> None:
    from raytune_ft.config.files.resolve import resolved_yaml
    from raytune_ft.objectives.prepared import prepare

    path = toy_experiment()
    experiment = raytune_ft.load_experiment(path, ["data.test=null"])
    run = RunDirectory(tmp_path / "run")
    prepare(experiment, run.data)
    write_text(run.experiment, resolved_yaml(experiment))
    write_text(run.winner, '{"parameters": {}}')
    with pytest.raises(InputError, match=r"data\.test: missing, so there is nothing that no trial saw"):
        raytune_ft.evaluate(run)
