from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from raytune_ft.cli.app import app
from raytune_ft.data.prepared import TEST_ROWS
from raytune_ft.errors import InputError, IntegrityError, RaytuneError
from raytune_ft.evaluation.uses import Use, Uses, note_use, read_uses
from raytune_ft.paths import RunDirectory, write_json
from raytune_ft.promotion.promote import promote
from raytune_ft.registry.manifest import verify
from raytune_ft.registry.store import Registry

Write = Callable[..., Path]


def change(path: Path, **values: Any) -> None:
    write_json(path, {**json.loads(path.read_text()), **values})


def test_a_winner_becomes_a_version_and_champion(run: RunDirectory, registry: Registry) -> None:
    done = promote(run, registry)
    assert (done.adapter, done.version, done.alias, done.previous, done.forced) == (
        "movies",
        1,
        "champion",
        None,
        False,
    )
    manifest = verify(registry.resolve("movies").path)
    assert (manifest.trial, manifest.form, manifest.lora_rank) == ("0003", "prompt_completion", 2)
    again = promote(run, registry)
    assert (again.version, again.previous) == (2, 1)


def test_a_version_is_asked_as_its_data_was_whatever_the_kind_of_rows(run: RunDirectory, registry: Registry) -> None:
    for form, served in (("preference", "prompt_completion"), ("preference_messages", "messages")):
        change(run.data / "manifest.json", form=form)
        promote(run, registry)
        assert verify(registry.resolve("movies").path).form == served


def test_the_card_tells_where_the_adapter_comes_from(run: RunDirectory, registry: Registry, tmp_path: Path) -> None:
    promote(run, registry, command="raytune-ft promote runs/movies")
    card = (registry.resolve("movies").path / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert (front["base_model"], front["library_name"]) == ("base-model", "peft")
    for fact in (
        "f" * 64, "9000 rows", "3 rows of train/test are the same", "`train.learning_rate`: 0.001", "400 held-out rows",
        "| accuracy | 0.8000 | 0.8800 | +0.0800 | 95%: +0.0500 to +0.1100 |", "raytune-ft promote runs/movies",
    ):  # fmt: skip
        assert fact in card
    assert str(tmp_path) not in card


def test_the_card_says_how_often_the_test_rows_decided_and_a_refusal_counts_too(
    run: RunDirectory, registry: Registry
) -> None:
    (run.data / TEST_ROWS).write_text('{"prompt": "a", "completion": " b"}\n')
    difference = json.loads(run.evaluation.read_text())["difference"]
    change(run.evaluation, difference={"accuracy": {"mean": 0.01, "low": 0.0, "high": 0.02, "level": 0.95}})
    with pytest.raises(RaytuneError, match="no gain over the base is shown"):
        promote(run, registry)
    assert read_uses(run) == Uses(0, 1, 1)
    change(run.evaluation, difference=difference)
    note_use(run, Use("evaluate", "movies", "0003", "other weights", "base"))
    done = promote(run, registry)
    again = promote(run, registry)  # another champion by now
    cards = [(each.path / "README.md").read_text() for each in (done, again)]
    assert "These rows were used for 2 decisions so far, in 1 run: 1 winner compared with the base, 1 prom" in cards[0]
    assert "These rows were used for 3 decisions so far" in cards[1]
    promote(run, registry, skip=["gain", "no_worse"])  # by nothing that the test rows say
    assert read_uses(run) == Uses(1, 2, 1)


def test_a_gain_that_is_not_shown_is_refused_and_the_champion_stays(run: RunDirectory, registry: Registry) -> None:
    promote(run, registry)
    change(run.evaluation, difference={"accuracy": {"mean": 0.01, "low": 0.0, "high": 0.02, "level": 0.95}})
    with pytest.raises(RaytuneError, match="no gain over the base is shown") as refused:
        promote(run, registry)
    assert refused.value.exit_code == 1
    assert (registry.versions("movies"), registry.alias("movies", "champion")) == ([1], 1)
    assert promote(run, registry, force=True).forced
    assert verify(registry.resolve("movies").path).forced


@pytest.mark.parametrize(("low", "high", "shown"), [(-0.3, -0.1, True), (-0.3, 0.1, False), (0.1, 0.3, False)])
def test_for_the_loss_less_is_a_gain(
    run: RunDirectory, registry: Registry, low: float, high: float, shown: bool
) -> None:
    change(run.evaluation, metrics=["loss"], difference={"loss": {"mean": 0, "low": low, "high": high, "level": 0.95}})
    if shown:
        assert promote(run, registry).gain.metric == "loss"
    else:
        with pytest.raises(RaytuneError):
            promote(run, registry)


@pytest.mark.parametrize(
    "evaluated", [None, {"trial": "0001", "step": 10}, {"trial": "0003", "step": 5}, {"trial": "0003", "step": 10}]
)
def test_an_evaluation_of_another_winner_is_refused(
    run: RunDirectory, registry: Registry, evaluated: dict[str, Any] | None
) -> None:
    change(run.evaluation, winner=evaluated)
    with pytest.raises(IntegrityError, match="was made for"):
        promote(run, registry)


def test_weights_that_changed_after_the_evaluation_are_refused(
    run: RunDirectory, registry: Registry, write_adapter: Write
) -> None:
    write_adapter(fill=9)
    with pytest.raises(IntegrityError, match="other weights"):
        promote(run, registry)


@pytest.mark.parametrize("missing", ["winner", "evaluation"])
def test_a_run_that_is_not_finished_is_an_input_error(run: RunDirectory, registry: Registry, missing: str) -> None:
    getattr(run, missing).unlink()
    with pytest.raises(InputError, match="is missing"):
        promote(run, registry)
    assert registry.adapters() == []


def test_fault_12_a_run_whose_trials_all_failed_promotes_nothing_and_the_champion_stays(
    run: RunDirectory, registry: Registry
) -> None:
    promote(run, registry)
    for left_out in (run.winner, run.evaluation):
        left_out.unlink()
    with pytest.raises(InputError, match=r"winner\.json.* is missing"):
        promote(run, registry)
    assert registry.resolve("movies").version == 1
    verify(registry.resolve("movies").path)


@pytest.mark.parametrize("adapter", ["../../elsewhere", "/etc", "trials/0009"])
def test_a_winner_outside_of_its_run_is_refused(run: RunDirectory, registry: Registry, adapter: str) -> None:
    change(run.winner, adapter=adapter)
    with pytest.raises(IntegrityError):
        promote(run, registry)


def test_a_winner_of_another_base_is_refused(run: RunDirectory, registry: Registry) -> None:
    change(run.winner, base_model="org/other")
    with pytest.raises(RaytuneError, match="is not"):
        promote(run, registry)


def test_the_verbs_promote_list_and_roll_back(run: RunDirectory, registry: Registry) -> None:
    runner = CliRunner()
    for version in (1, 2):
        promoted = runner.invoke(app, ["promote", str(run.root), "--json"])
        assert json.loads(promoted.stdout)["version"] == version
    listed = json.loads(runner.invoke(app, ["adapters", "--registry", str(registry.root), "--json"]).stdout)
    assert [(row["version"], row["aliases"]) for row in listed] == [(1, ["previous"]), (2, ["champion"])]
    assert "movies" in runner.invoke(app, ["adapters", "--registry", str(registry.root)]).stdout
    assert "movies@1" in runner.invoke(app, ["rollback", "movies", "--registry", str(registry.root)]).stdout
    assert registry.resolve("movies").version == 1


@pytest.mark.parametrize("inside", [True, False])
def test_the_recorded_command_names_no_directory_of_the_machine(
    run: RunDirectory, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    monkeypatch.chdir(tmp_path if inside else tmp_path / "models")
    promote(run, registry)
    command = verify(registry.resolve("movies").path).command
    assert command == ("raytune-ft promote runs/movies" if inside else "raytune-ft promote movies")
