"""Files that another step reads are whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

from raytune_ft.errors import IntegrityError
from raytune_ft.paths import RunDirectory, read_json, sha256_file, write_json, write_text


def test_json_comes_back_as_it_was_written(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None, True], "a": "käse\u2028\n"}
    write_json(tmp_path / "deep/er/x.json", value)
    assert read_json(tmp_path / "deep/er/x.json") == value
    assert list((tmp_path / "deep/er/x.json").parent.iterdir()) == [tmp_path / "deep/er/x.json"]


def test_a_file_is_readable_by_others_on_shared_storage(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "y")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o644


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch, moment: str) -> None:
    path = tmp_path / "x.json"
    write_json(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, moment, full)
    with pytest.raises(OSError, match="No space left"):
        write_json(path, "new")
    monkeypatch.undo()
    assert read_json(path) == "old" and list(tmp_path.iterdir()) == [path]


def test_a_value_that_is_no_json_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", object())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", "{", '{"a": 1', "nonsense", "\ufeff{}"])
def test_a_damaged_file_is_named_with_a_remedy(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(IntegrityError, match=r"x\.json: not whole JSON .*; put a whole one back, or run"):
        read_json(path)


def test_a_checksum_is_sha256_of_the_bytes(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "x").write_bytes(data)
    assert sha256_file(tmp_path / "x") == hashlib.sha256(data).hexdigest()


def test_a_run_directory_knows_its_file_names(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    write_json(run.trial("0003").outcome, {})
    assert (tmp_path / "run/trials/0003/outcome.json").exists()
    names = {path.name for path in (run.experiment, run.study, run.leaderboard, run.winner, run.evaluation, run.report)}
    assert names == {
        "experiment.yaml",
        "study.db",
        "leaderboard.json",
        "winner.json",
        "evaluation.json",
        "report.html",
    }
    assert not json.loads(run.trial("0003").outcome.read_text())
