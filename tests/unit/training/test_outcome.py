"""How a trial ended is on disk, in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raytune_ft.errors import IntegrityError
from raytune_ft.paths import TrialDirectory
from raytune_ft.training.outcome import Outcome, OutcomeKind


@pytest.mark.parametrize("kind", list(OutcomeKind))
def test_an_outcome_comes_back_as_it_was_written(tmp_path: Path, kind: OutcomeKind) -> None:
    trial = TrialDirectory(tmp_path / "0003")
    outcome = Outcome(kind, "because", 30, 0.31, 83.5)
    outcome.write(trial)
    assert Outcome.read(trial) == outcome
    assert json.loads(trial.outcome.read_text()) == {
        "outcome": str(kind),
        "reason": "because",
        "step": 30,
        "value": 0.31,
        "seconds": 83.5,
    }


def test_a_trial_that_goes_on_has_no_outcome(tmp_path: Path) -> None:
    assert Outcome.read(TrialDirectory(tmp_path)) is None


def test_a_damaged_outcome_is_named(tmp_path: Path) -> None:
    (tmp_path / "outcome.json").write_text('{"outcome": "comp')
    with pytest.raises(IntegrityError, match=r"outcome\.json: not whole JSON"):
        Outcome.read(TrialDirectory(tmp_path))
