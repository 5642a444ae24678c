"""What a job finds on the cluster."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from raytune_ft.cluster.paths_on_cluster import NOT_UPLOADED, is_left_out, settings_for_cluster
from raytune_ft.config.experiment import Experiment
from raytune_ft.config.overrides import parse_assignments


def _experiment(**changes: object) -> Experiment:
    values = {"name": "x", "base_model": "org/model", "data": {"train": "data/train.jsonl"}, **changes}
    return Experiment.model_validate(values)


def _touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    return path


def test_a_file_that_is_uploaded_keeps_its_relative_name(tmp_path: Path) -> None:
    _touch(tmp_path / "data/train.jsonl")
    settings, shared = settings_for_cluster(_experiment(), tmp_path)
    assert not [setting for setting in settings if setting.startswith("data.")]
    assert str(tmp_path / "data/train.jsonl") not in shared


def test_a_file_that_is_not_uploaded_gets_its_absolute_name(tmp_path: Path) -> None:
    _touch(tmp_path / "assets/data/train.jsonl")
    _touch(tmp_path / "assets/model/config.json")
    experiment = _experiment(base_model="assets/model", data={"train": "assets/data/train.jsonl"})
    settings, shared = settings_for_cluster(experiment, tmp_path)
    assert f"base_model={tmp_path}/assets/model" in settings
    assert f"data.train={tmp_path}/assets/data/train.jsonl" in settings
    assert f"{tmp_path}/assets/model" in shared


def test_a_file_outside_the_working_directory_gets_its_absolute_name(tmp_path: Path) -> None:
    _touch(tmp_path / "elsewhere/train.jsonl")
    inside = tmp_path / "work"
    inside.mkdir()
    settings, _ = settings_for_cluster(_experiment(data={"train": "../elsewhere/train.jsonl"}), inside)
    assert f"data.train={tmp_path}/elsewhere/train.jsonl" in settings


def test_results_never_go_into_the_job_s_throwaway_directory(tmp_path: Path) -> None:
    settings, shared = settings_for_cluster(_experiment(), tmp_path)
    assert f"output_dir={tmp_path}/runs" in settings
    assert f"registry.path={tmp_path}/registry" in settings
    assert shared == [f"{tmp_path}/runs", f"{tmp_path}/registry"]


def test_earlier_runs_are_found_where_they_lie(tmp_path: Path) -> None:
    space = {"parameters": {"method.r": {"choice": [4, 8]}}}
    experiment = _experiment(search={"space": space, "warm_start": ["runs/one", "/shared/two"]})
    settings, shared = settings_for_cluster(experiment, tmp_path)
    assert f'search.warm_start=["{tmp_path}/runs/one", "/shared/two"]' in settings
    assert {f"{tmp_path}/runs/one", "/shared/two"} <= set(shared)
    (assignment,) = [setting for setting in settings if setting.startswith("search.warm_start")]
    assert parse_assignments([assignment]) == {"search.warm_start": [f"{tmp_path}/runs/one", "/shared/two"]}


def test_hub_ids_urls_and_absolute_paths_stay_as_they_are(tmp_path: Path) -> None:
    experiment = _experiment(
        data={"train": "s3://bucket/train.jsonl", "test": "/shared/test.jsonl"},
        output_dir="/shared/runs",
        registry={"path": "/shared/registry"},
    )
    settings, shared = settings_for_cluster(experiment, tmp_path)
    assert settings == []
    assert shared == ["/shared/test.jsonl", "/shared/runs", "/shared/registry"]


@pytest.mark.parametrize(
    ("path", "left_out"),
    [
        ("raytune_ft/registry/store.py", False),
        ("experiments/quickstart.yaml", False),
        ("data/.hidden.jsonl", False),
        ("registry/a/1/manifest.json", True),
        ("assets/data/movies.train.jsonl", True),
        (".env", True),
        (".git/config", True),
        ("raytune_ft/__pycache__/paths.pyc", True),
    ],
)
def test_what_ray_packs_is_what_the_rule_says(path: str, left_out: bool, tmp_path: Path) -> None:
    from ray._private.runtime_env.packaging import create_package

    _touch(tmp_path / "tree" / path)
    _touch(tmp_path / "tree" / "always.txt")
    package = tmp_path / "package.zip"
    create_package(str(tmp_path / "tree"), package, include_gitignore=False, excludes=list(NOT_UPLOADED))
    packed = zipfile.ZipFile(package).namelist()
    assert "always.txt" in packed
    assert (path not in packed) is left_out
    assert is_left_out(Path(path).parts) is left_out
