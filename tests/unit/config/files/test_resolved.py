"""The resolved file says everything, reads back to the same experiment, and holds no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from raytune_ft.config.files.resolve import REDACTED, redact, resolved_values, resolved_yaml
from raytune_ft.config.load import load_experiment, with_parameters
from raytune_ft.errors import InputError

CANARY = "c4n4ry"
ROOT = Path(__file__).parents[4]


def test_a_resolved_file_reads_back_to_the_same_experiment(load, tmp_path: Path) -> None:
    experiment = load(
        ("name: movies", 'name: "1e5"'), ("  trials: 4\n", "  trials: 4\nevaluate: {labels: [' a', '7']}\n")
    )
    (tmp_path / "resolved.yaml").write_text(resolved_yaml(experiment), encoding="utf-8")
    again = load_experiment(tmp_path / "resolved.yaml")
    assert again == experiment
    assert resolved_yaml(again) == resolved_yaml(experiment)


def test_numbers_of_tokens_are_no_secret(load, tmp_path: Path) -> None:
    lane = ("  trials: 4\n", "  trials: 4\n  budget: {tokens: 5000}\nrunner: {type: lane, step: {round_tokens: 8}}\n")
    experiment = load(lane)
    (tmp_path / "resolved.yaml").write_text(resolved_yaml(experiment), encoding="utf-8")
    assert load_experiment(tmp_path / "resolved.yaml") == experiment
    assert redact({"tokens": CANARY, "round_tokens": 8}) == {"tokens": REDACTED, "round_tokens": 8}


def test_a_resolved_file_shows_defaults_and_the_space_itself(load) -> None:
    values = resolved_values(load())
    assert values["train"]["warmup_steps"] == 0
    assert values["search"]["scheduler"] == {"type": "asha", "grace_period": 5, "reduction_factor": 3}
    assert values["search"]["space"]["parameters"]["method.r"] == {"choice": [4, 8, 16]}


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{CANARY}@host/db",
        f"postgresql+psycopg2://user:{CANARY}@host:5432/db?sslmode=require",
        f"mysql://user:{CANARY}/{CANARY}@host/db",
        f"mysql://user:a@{CANARY}@host/db",
        f"redis://:{CANARY}@host",
        f"postgresql://host/db?user=u&password={CANARY}",
        f"postgresql://host/db?sslmode=require&sslpassword={CANARY}",
        f"https://host/db?api_key={CANARY}&x=1",
        f"s3://bucket/x?aws_session_token={CANARY}",
    ],
)
def test_no_password_of_a_storage_url_is_written(load, url) -> None:
    written = resolved_yaml(load(overrides=(f"search.storage='{url}'",)))
    assert CANARY not in written and REDACTED in written
    assert url.split("://")[0] in written and ("host" in written or "bucket" in written)


@pytest.mark.parametrize(
    "key",
    ["api_key", "apikey", "API_KEY", "token", "hf_token", "password", "db-password", "client_secret", "access_key"],
)
@pytest.mark.parametrize("value", [CANARY, 4711, [CANARY]])
def test_a_value_under_a_secret_key_is_not_written(key, value) -> None:
    assert redact({"a": [{key: value, "other": 1}]}) == {"a": [{key: REDACTED, "other": 1}]}


@pytest.mark.parametrize(
    "value",
    [
        {"tokens": {"a": 1}, "max_tokens_seen": 3, "keyboard": "x", "password": None},
        "sqlite:///runs/a/study.db",
        "assets/data/movies.train.jsonl",
        "http://localhost:8000/v1",
        "mail@example.org: hello",
        3,
        None,
    ],
)
def test_what_is_no_secret_is_left_as_it_is(value) -> None:
    assert redact(value) == value


def test_an_experiment_is_frozen(load) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().seed = 3


def test_a_trials_parameters_are_put_in_and_checked_again(load) -> None:
    experiment = load()
    trial = with_parameters(experiment, {"train.learning_rate": 5e-3, "resources.strategy": {"type": "ddp"}})
    assert trial.train.learning_rate == 5e-3 and trial.resources.strategy.type == "ddp"
    assert experiment.train.learning_rate == 1e-3
    assert trial.model_copy(update={"train": experiment.train, "resources": experiment.resources}) == experiment
    with pytest.raises(InputError, match=r"^method\.r: 0: input should be greater"):
        with_parameters(experiment, {"method.r": 0})


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda path: path.name)
def test_every_experiment_file_that_is_shipped_loads(path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    experiment = load_experiment(path)
    assert experiment.search is not None and experiment.search.space.parameters


@pytest.mark.parametrize("path", sorted((ROOT / "search_spaces").glob("*.yaml")), ids=lambda path: path.name)
def test_every_search_space_that_is_shipped_fits_a_plain_experiment(load, settings_of_space, path) -> None:
    search = load(("space: space.yaml", f"space: {path}"), overrides=settings_of_space(path)).search
    assert search.space.start_from, "a space says where to begin"


def test_each_key_of_the_quickstart_file_arrives_in_the_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    monkeypatch.chdir(ROOT)
    written = yaml.safe_load((ROOT / "experiments/quickstart.yaml").read_text())
    loaded = load_experiment("experiments/quickstart.yaml").model_dump(mode="json")
    written["search"]["space"] = yaml.safe_load(Path(written["search"]["space"]).read_text())

    def missing(given, arrived, path=""):
        if isinstance(given, dict):
            return [line for key, value in given.items() for line in missing(value, arrived.get(key), f"{path}.{key}")]
        return [] if given == arrived else [f"{path}: {given!r} became {arrived!r}"]

    assert missing({**written, "search": {**written["search"], "space": {}}}, loaded) == []
    assert list(loaded["search"]["space"]["parameters"]) == list(written["search"]["space"]["parameters"])
    assert loaded["search"]["space"]["start_from"] == written["search"]["space"]["start_from"]
