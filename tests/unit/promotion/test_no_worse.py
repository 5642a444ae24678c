"""Winner against champion."""

from __future__ import annotations

import json

import pytest

from raytune_ft.errors import IntegrityError
from raytune_ft.paths import RunDirectory, write_json
from raytune_ft.promotion.gates import GateRefusedError
from raytune_ft.promotion.promote import promote
from raytune_ft.registry.store import Registry


@pytest.fixture
def champion(run: RunDirectory, registry: Registry, write_adapter, evaluate, engines) -> Registry:
    """Version 1 is champion; the run has other weights since, which are right on 352 of 400 rows."""
    promote(run, registry)
    write_adapter(fill=2)
    evaluate()
    engines.asked = []
    return registry


@pytest.mark.parametrize(
    ("right", "passed"),
    [
        (340, True),  # better
        (352, True),  # the same
        (354, True),  # by half a point, within chance
        (359, False),  # by 1.75 points: within the margin, but seven rows of seven speak against it
        (362, False),  # by more than the margin
    ],
)
def test_a_winner_is_refused_that_is_worse_than_the_champion(
    run: RunDirectory, champion: Registry, engines, right: int, passed: bool
) -> None:
    engines.right = right
    if passed:
        gate = promote(run, champion).gates["no_worse"]
        assert gate["mean"] == pytest.approx((352 - right) / 400) and gate["champion"] == 1
    else:
        with pytest.raises(GateRefusedError, match=r"no_worse: against the champion movies@1: accuracy -0\.0"):
            promote(run, champion)
        assert (champion.versions("movies"), champion.alias("movies", "champion")) == ([1], 1)
        assert engines.names == ["transformers"]  # vLLM is not started for it


def test_a_margin_of_nothing_takes_no_worse_mean(run: RunDirectory, champion: Registry, engines) -> None:
    engines.right = 354
    experiment = run.experiment.read_text()
    run.experiment.write_text(experiment + "promotion: {no_worse: {margin: 0.0}}\n")
    with pytest.raises(GateRefusedError, match="it may be worse by 0 at most"):
        promote(run, champion)


def test_force_goes_past_a_better_champion(run: RunDirectory, champion: Registry, engines) -> None:
    engines.right = 400
    done = promote(run, champion, force=True)
    assert (done.version, done.forced, done.gates["no_worse"]["passed"]) == (2, True, False)


def test_the_champions_own_weights_are_not_scored_again(run: RunDirectory, registry: Registry, engines) -> None:
    promote(run, registry)
    engines.asked = []
    done = promote(run, registry)
    assert done.gates["no_worse"]["reason"] == "it has the weights of the champion movies@1"
    assert [spec["champion"] for _, spec in engines.asked if "champion" in spec] == [None]


def test_the_same_weights_with_another_alpha_are_another_adapter(
    run: RunDirectory, registry: Registry, write_adapter, engines
) -> None:
    promote(run, registry)
    write_adapter(lora_alpha=64)
    engines.right = 400
    with pytest.raises(GateRefusedError, match="no_worse"):
        promote(run, registry)


def test_a_champion_of_another_base_can_not_be_compared(run: RunDirectory, champion: Registry) -> None:
    path = champion.path("movies", 1) / "manifest.json"
    write_json(path, {**json.loads(path.read_text()), "base_sha256": "0" * 64})
    with pytest.raises(GateRefusedError, match="the champion movies@1 is of another base"):
        promote(run, champion)
    assert promote(run, champion, skip=["no_worse"]).version == 2


def test_a_champion_that_was_trained_on_other_data_is_said_to_be(run: RunDirectory, champion: Registry) -> None:
    path = champion.path("movies", 1) / "manifest.json"
    write_json(path, {**json.loads(path.read_text()), "data_fingerprint": "0" * 64})
    assert "trained on other data, which may hold" in promote(run, champion).gates["no_worse"]["reason"]


def test_a_challenger_is_compared_with_the_champion_too(run: RunDirectory, champion: Registry, engines) -> None:
    done = promote(run, champion, alias="challenger")
    assert (done.alias, done.version, done.previous) == ("challenger", 2, None)
    assert champion.aliases("movies") == {"champion": 1, "challenger": 2}
    assert done.gates["no_worse"]["champion"] == 1
    engines.right = 400
    with pytest.raises(GateRefusedError, match="no_worse"):
        promote(run, champion, alias="challenger")


def test_a_champion_that_moves_meanwhile_is_compared_with_instead(
    run: RunDirectory, champion: Registry, write_adapter, evaluate, engines
) -> None:
    write_adapter(fill=3)
    evaluate()
    promote(run, champion, alias="challenger")
    write_adapter(fill=2)
    evaluate()
    engines.asked = []

    def another_promotion() -> None:
        champion.set_alias("movies", "champion", 2)
        engines.right = 400

    engines.meanwhile = another_promotion
    with pytest.raises(GateRefusedError, match="against the champion movies@2"):
        promote(run, champion)
    assert engines.names == ["transformers", "vLLM", "transformers"]
    assert champion.versions("movies") == [1, 2]


def test_scores_of_other_weights_are_refused(run: RunDirectory, champion: Registry) -> None:
    scores = json.loads(run.scores.read_text())
    write_json(run.scores, {**scores, "adapter_sha256": "0" * 64})
    with pytest.raises(IntegrityError, match="made for other weights"):
        promote(run, champion)
    run.scores.unlink()
    with pytest.raises(IntegrityError, match=r"evaluation\.scores\.json: is missing; run raytune-ft evaluate again"):
        promote(run, champion)
