"""A trial's scratch directory is its user's own."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from raytune_ft.paths import TrialDirectory
from raytune_ft.training.isolated.scratch import scratch_directory


def test_all_ranks_get_one_private_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    trial = TrialDirectory(tmp_path / "trials" / "0001")
    path = scratch_directory(trial)
    assert path == scratch_directory(trial) != scratch_directory(TrialDirectory(tmp_path / "trials" / "0002"))
    assert path.stat().st_mode & 0o777 == 0o700


def test_a_link_that_somebody_left_in_its_place_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    trial = TrialDirectory(tmp_path / "trials" / "0001")
    path = scratch_directory(trial)
    path.rmdir()
    (tmp_path / "elsewhere").mkdir()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        scratch_directory(trial)
