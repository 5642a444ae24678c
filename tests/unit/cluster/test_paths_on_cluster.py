"""What a job finds on the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.cluster.paths_on_cluster import Named, PathsOnCluster, paths_on_cluster
from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.overrides import parse_assignments
from raytune_ft.errors import InputError


def _experiment(**changes: object) -> Experiment:
    values = {"name": "x", "base_model": "org/model", "data": {"train": "/shared/train.jsonl"}, **changes}
    return Experiment.model_validate(values)


def _paths(experiment: Experiment, working_dir: Path) -> PathsOnCluster:
    return paths_on_cluster(experiment, {}, working_dir)


def _named(experiment: Experiment, working_dir: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The job's settings, and the paths that every node must see."""
    paths = _paths(experiment, working_dir)
    return paths.settings, paths.shared


def _touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    return path


def test_a_file_that_is_uploaded_keeps_its_relative_name(tmp_path: Path) -> None:
    _touch(tmp_path / "data/train.jsonl")
    settings, shared = _named(_experiment(data={"train": "data/train.jsonl"}), tmp_path)
    assert not [setting for setting in settings if setting.startswith("data.")]
    assert str(tmp_path / "data/train.jsonl") not in shared


def test_a_file_that_is_not_uploaded_gets_its_absolute_name(tmp_path: Path) -> None:
    _touch(tmp_path / "assets/data/train.jsonl")
    _touch(tmp_path / "assets/model/config.json")
    experiment = _experiment(base_model="assets/model", data={"train": "assets/data/train.jsonl"})
    settings, shared = _named(experiment, tmp_path)
    assert f"base_model={tmp_path}/assets/model" in settings
    assert f"data.train={tmp_path}/assets/data/train.jsonl" in settings
    assert f"{tmp_path}/assets/model" in shared


def test_a_file_outside_the_working_directory_gets_its_absolute_name(tmp_path: Path) -> None:
    _touch(tmp_path / "elsewhere/train.jsonl")
    inside = tmp_path / "work"
    inside.mkdir()
    settings, _ = _named(_experiment(data={"train": "../elsewhere/train.jsonl"}), inside)
    assert f"data.train={tmp_path}/elsewhere/train.jsonl" in settings


def test_results_never_go_into_the_job_s_throwaway_directory(tmp_path: Path) -> None:
    settings, shared = _named(_experiment(), tmp_path)
    assert f"output_dir={tmp_path}/runs" in settings
    assert f"registry.path={tmp_path}/registry" in settings
    assert set(shared) == {f"{tmp_path}/runs", f"{tmp_path}/registry", "/shared/train.jsonl"}


def test_data_that_is_not_there_is_refused_before_a_job_lacks_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^data\.train: no file data/train\.jsonl in .*; give its path from there"):
        _paths(_experiment(data={"train": "data/train.jsonl"}), tmp_path)


def test_earlier_runs_are_found_where_they_lie(tmp_path: Path) -> None:
    space = {"parameters": {"method.r": {"choice": [4, 8]}}}
    experiment = _experiment(search={"space": space, "warm_start": ["runs/one", "/shared/two"]})
    settings, shared = _named(experiment, tmp_path)
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
    settings, shared = _named(experiment, tmp_path)
    assert settings == ()
    assert shared == ("/shared/test.jsonl", "/shared/runs", "/shared/registry")


def test_what_a_setting_names_inside_the_working_directory_is_sent(tmp_path: Path) -> None:
    _touch(tmp_path / "data/train.jsonl")
    _touch(tmp_path / "models/base/config.json")
    _touch(tmp_path / "spaces/mine.yaml")
    _touch(tmp_path / "data/general.txt")
    text = {"retention": {"text": "data/general.txt"}}
    data = {"train": "data/train.jsonl"}
    experiment = _experiment(base_model="./models/base", data=data, promotion=text)
    paths = paths_on_cluster(experiment, {"search": {"space": "spaces/mine.yaml"}}, tmp_path)
    assert {named.setting: str(named.path) for named in paths.sent} == {
        "base_model": "models/base",
        "data.train": "data/train.jsonl",
        "promotion.retention.text": "data/general.txt",
        "search.space": "spaces/mine.yaml",
    }


def _custom(trainer: str) -> Experiment:
    objective = {"type": "custom", "trainer": trainer, "metrics": {"score": "max"}}
    return Experiment.model_validate({"name": "x", "objective": objective})


def test_a_trainer_of_ones_own_is_sent_and_nothing_in_place_of_the_base_and_rows_that_it_does_without(
    tmp_path: Path,
) -> None:
    _touch(tmp_path / "mine/trainer.py")
    paths = _paths(_custom("mine/trainer.py:train"), tmp_path)
    assert paths.sent == (Named("objective.trainer", Path("mine/trainer.py")),)
    assert paths.settings == (f"output_dir={tmp_path}/runs", f"registry.path={tmp_path}/registry")
    assert paths.shared == (f"{tmp_path}/runs", f"{tmp_path}/registry")


def test_a_trainer_keeps_its_function_where_its_file_gets_another_name(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    outside = _touch(tmp_path / "trainer.py")
    paths = _paths(_custom("../trainer.py:train"), work)
    assert not paths.sent and str(outside) in paths.shared
    assert f"objective.trainer={outside}:train" in paths.settings
    _touch(work / "a/trainer.py")
    paths = _paths(_custom("a/../a/trainer.py:train"), work)
    assert paths.sent == (Named("objective.trainer", Path("a/trainer.py")),)
    assert "objective.trainer=a/trainer.py:train" in paths.settings
    assert str(outside) in _paths(_custom(f"{outside}:train"), work).shared
    with pytest.raises(InputError, match=r"^objective\.trainer: no file gone\.py in .*; give its path from there"):
        _paths(_custom("gone.py:train"), work)


@pytest.mark.parametrize(
    "place",
    ["assets/train.jsonl", "runs/train.jsonl", ".hidden/train.jsonl", "../train.jsonl", "more/runs/train.jsonl",
     "more/wandb/train.jsonl", "more/.hidden/train.jsonl", "more/.train.jsonl"],
)  # fmt: skip
def test_results_hidden_files_and_other_directories_are_not_sent(place: str, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    path = _touch(work / place)
    paths = _paths(_experiment(data={"train": place}), work)
    assert not paths.sent
    assert f"data.train={path.resolve()}" in paths.settings


def test_a_link_keeps_its_name_unless_it_leads_out(tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "data").mkdir(parents=True)
    (work / "data/train.jsonl").symlink_to(_touch(work / "data/rows.jsonl"))
    (work / "data/test.jsonl").symlink_to(_touch(tmp_path / "rows.jsonl"))
    paths = _paths(_experiment(data={"train": "data/train.jsonl", "test": "data/test.jsonl"}), work)
    assert paths.sent == (Named("data.train", Path("data/train.jsonl")),)
    assert f"data.test={tmp_path}/rows.jsonl" in paths.settings


def test_a_path_up_from_a_link_is_the_file_that_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    _touch(tmp_path / "a/b/train.jsonl")
    _touch(tmp_path / "test.jsonl")
    (tmp_path / "link").symlink_to("a/b/c")
    paths = _paths(_experiment(data={"train": "link/../train.jsonl", "test": "a/../test.jsonl"}), tmp_path)
    assert paths.sent == (
        Named("data.train", Path("a/b/train.jsonl")),
        Named("data.test", Path("test.jsonl")),
    )
    assert {"data.train=a/b/train.jsonl", "data.test=test.jsonl"} <= set(paths.settings)


def test_a_folder_of_code_may_be_called_as_a_folder_of_the_working_directory(tmp_path: Path) -> None:
    _touch(tmp_path / "mine/registry/train.jsonl")
    paths = _paths(_experiment(data={"train": "mine/registry/train.jsonl"}), tmp_path)
    assert paths.sent == (Named("data.train", Path("mine/registry/train.jsonl")),)


def test_the_whole_working_directory_is_never_sent(tmp_path: Path) -> None:
    assert not _paths(_experiment(base_model="."), tmp_path).sent


@pytest.mark.parametrize(
    ("storage", "there"),
    [("x.journal", "journal:{}/x.journal"), ("sqlite:///x.db", "sqlite:///{}/x.db"), ("sqlite:////y.db", None)],
)
def test_a_study_s_file_survives_the_job(storage: str, there: str | None, tmp_path: Path) -> None:
    space = {"parameters": {"method.r": {"choice": [4, 8]}}}
    paths = _paths(_experiment(search={"space": space, "storage": storage}), tmp_path)
    expected = there.format(tmp_path) if there else storage
    assert f"search.storage={expected}" in paths.settings
    assert "/" + expected.partition(":")[2].lstrip("/") in paths.shared


def test_a_study_on_a_server_stays_as_it_is(tmp_path: Path) -> None:
    space = {"parameters": {"method.r": {"choice": [4, 8]}}}
    paths = _paths(_experiment(search={"space": space, "storage": "postgresql://me@db/studies"}), tmp_path)
    assert not [each for each in paths.settings if each.startswith("search.storage")]


def test_each_setting_that_may_name_a_file_is_known_here() -> None:
    """A new setting of text belongs to the paths of paths_on_cluster.py, or into this list of those that are none."""
    from raytune_ft.cluster.paths_on_cluster import READ, READ_AT_LOADING, WRITTEN

    no_paths = {
        "name", "method.target_modules", "evaluate.labels", "search.best", "search.metric", "search.metrics.name",
        "search.algorithm.objective", "tracking.wandb.project", "tracking.wandb.entity", "registry.adapter",
    }  # fmt: skip
    handled = {"search.storage", "search.warm_start"}
    assert set(_texts(Experiment.model_json_schema())) == {*READ, *READ_AT_LOADING, *WRITTEN, *no_paths, *handled} - {
        "search.space"  # a section, whose file is read before
    }


def _texts(schema: dict[str, Any]) -> Iterator[str]:
    """Dotted names of a schema's fields that may hold free text, or lists of it."""

    def walk(node: dict[str, Any], name: str) -> Iterator[str]:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        for choice in (*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())):
            yield from walk(choice, name)
        if node.get("type") == "array" and isinstance(node.get("items"), dict):
            yield from walk(node["items"], name)
        if node.get("type") == "string" and not {"enum", "const"} & node.keys():
            yield name
        for key, inner in node.get("properties", {}).items():
            yield from walk(inner, f"{name}.{key}".removeprefix("."))

    yield from walk(schema, "")
