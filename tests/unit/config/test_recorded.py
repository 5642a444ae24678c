"""Runs of before are read in today's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raytune_ft.config.files.resolve import resolved_values
from raytune_ft.config.files.yaml import dump_yaml
from raytune_ft.config.load import load_experiment, load_recorded
from raytune_ft.errors import InputError
from raytune_ft.paths import RunDirectory
from raytune_ft.search.study.resume import check_same_experiment

LANE: dict[str, Any] = {"type": "lane", "packed": 4}


def of_before(values: dict[str, Any], attention: str = "auto") -> dict[str, Any]:
    """What an earlier version wrote for the same experiment: every default, also those that are gone."""
    values["evaluate"]["bootstrap_samples"] = 2000
    values["train"]["attn_implementation"] = "sdpa"
    values["runner"] = {**values["runner"], "pin_threads": True}
    values["runner"]["step"] |= {"attention": attention, "compile": False}
    values["promotion"]["no_worse"] = {"margin": 0.02}
    return values


@pytest.mark.parametrize(("before", "now"), [("auto", "auto"), ("math", "eager"), ("sdpa", "sdpa")])
def test_a_run_of_before_is_the_same_experiment_today(toy_experiment, tmp_path: Path, before: str, now: str) -> None:
    experiment = load_experiment(toy_experiment(runner=LANE, train={"attn_implementation": now}))
    run = RunDirectory(tmp_path / "run")
    run.root.mkdir()
    run.experiment.write_text(dump_yaml(of_before(resolved_values(experiment), before)))
    assert load_recorded(run) == experiment
    check_same_experiment(experiment, run)
    with pytest.raises(InputError, match=r"experiment.yaml:\d+: \w+"):
        load_experiment(run.experiment)


def test_a_run_of_today_is_read_as_it_is(toy_experiment, tmp_path: Path) -> None:
    changes = {"train": {"attn_implementation": "sdpa"}, "promotion": {"no_worse": {"margin": 0.02}}}
    experiment = load_experiment(toy_experiment(**changes))
    run = RunDirectory(tmp_path / "run")
    run.root.mkdir()
    run.experiment.write_text(dump_yaml(resolved_values(experiment)))
    assert load_recorded(run) == experiment
    assert load_recorded(run, ["evaluate.batch_size=3"]).evaluate.batch_size == 3
