"""A gate that is switched off stays off in the resolved experiment, which `promote` reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from raytune_ft.config.files.resolve import resolved_yaml
from raytune_ft.config.load import load_experiment
from raytune_ft.errors import InputError

EXPERIMENT = "name: e\nbase_model: b\ndata: {train: t.jsonl}\n"


def test_null_survives_being_written_beside_the_results(tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(EXPERIMENT + "promotion: {parity: null, retention: {max_ratio: 2.0}}\n")
    first = load_experiment(path)
    path.write_text(resolved_yaml(first))
    again = load_experiment(path)
    assert again.promotion == first.promotion
    assert again.promotion.parity is None and again.promotion.gain is not None
    assert again.promotion.retention is not None and again.promotion.retention.max_ratio == 2.0


def test_a_misspelled_gate_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(EXPERIMENT + "promotion: {partiy: null}\n")
    with pytest.raises(InputError, match=r"promotion\.partiy: unknown key; did you mean parity\?"):
        load_experiment(path)
