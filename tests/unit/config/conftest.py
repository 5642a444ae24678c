"""An experiment file to spoil, in a working directory of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.load import load_experiment
from raytune_ft.errors import InputError

EXPERIMENT = """\
name: movies
base_model: models/base
data:
  train: train.jsonl
  test: test.jsonl
objective: {type: sft, loss_on: completion}
method: {type: lora, r: 8}
train:
  learning_rate: 1e-3
  max_steps: 30
resources:
  strategy: {type: deepspeed, zero_stage: 2}
search:
  space: space.yaml
  algorithm: {type: tpe, seed: 0}
  scheduler: {type: asha, grace_period: 5}
  trials: 4
"""
SPACE = """\
# a comment, so that lines differ from the experiment's
parameters:
  train.learning_rate: {loguniform: [1e-4, 1e-2]}
  method.r: {choice: [4, 8, 16]}
start_from:
  - {method.r: 8}
"""
Load = Callable[..., Experiment]
Problem = Callable[..., str]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads `experiment.yaml`, beside `space.yaml`, after the replacements given as (old, new) pairs."""
    monkeypatch.chdir(tmp_path)

    def run(*changes: tuple[str, str], space: str = SPACE, overrides: tuple[str, ...] = ()) -> Experiment:
        text = EXPERIMENT
        for old, new in changes:
            assert text.count(old) == 1, f"{old!r} must stand once in the file"
            text = text.replace(old, new)
        Path("experiment.yaml").write_text(text)
        Path("space.yaml").write_text(space)
        return load_experiment("experiment.yaml", overrides)

    return run


@pytest.fixture
def problem(load: Load) -> Problem:
    """The message of the InputError that `load` ends in."""

    def run(*changes: tuple[str, str], **others: object) -> str:
        with pytest.raises(InputError) as caught:
            load(*changes, **others)
        return str(caught.value)

    return run
