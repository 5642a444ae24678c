"""Winner against champion."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from raytune_ft.config.experiment import Evaluate, Experiment
from raytune_ft.config.promotion import NoWorseGate, PromotionConfig
from raytune_ft.errors import IntegrityError
from raytune_ft.objectives.scoring.scores import Scores
from raytune_ft.paths import RunDirectory, write_json
from raytune_ft.promotion.gates import GateRefusedError, Verdict
from raytune_ft.promotion.no_worse import Champion, judge_no_worse
from raytune_ft.promotion.promote import promote
from raytune_ft.registry.manifest import Manifest
from raytune_ft.registry.store import Registry

CHAMPION = Champion(
    Path("registry/movies/1"),
    Manifest.model_construct(adapter="movies", version=1, data_fingerprint="f"),
)


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


def judged(wins: int, losses: int, margin: float | None) -> Verdict:
    """Of a winner that alone is right on `wins` of 400 rows, and alone wrong on `losses`."""
    expected, choice = np.ones(400, dtype=np.int64), np.ones((2, 400), dtype=np.int64)
    choice[0, :wins] = choice[1, wins : wins + losses] = 0
    theirs, ours = (Scores(np.zeros(400), expected, each, expected) for each in choice)
    promotion = PromotionConfig(no_worse=NoWorseGate(margin=margin))
    experiment = Experiment.model_construct(evaluate=Evaluate(), promotion=promotion)
    return judge_no_worse(CHAMPION, theirs, ours, "accuracy", experiment, "f")


def test_a_mean_inside_the_margin_is_not_enough() -> None:
    verdict = judged(wins=20, losses=24, margin=0.02)
    assert verdict.numbers["mean"] == pytest.approx(-0.01) and verdict.passed is False
    assert verdict.reason.endswith(
        "; it may be worse by 0.0443 at 97.5 %, more than the margin 0.0200, which needs about 2,500 test rows"
    )
    assert judged(wins=20, losses=24, margin=0.05).reason.endswith(
        "; worse by no more than the margin 0.0500, at 97.5 %"
    )


def test_the_default_margin_follows_from_the_rows_and_is_said() -> None:
    assert judged(wins=12, losses=12, margin=None).numbers["margin"] == pytest.approx(0.0363, abs=1e-4)
    assert judged(wins=45, losses=45, margin=None).numbers["margin"] == pytest.approx(0.0726, abs=1e-4)
    refused = judged(wins=6, losses=18, margin=None)
    assert not refused.passed
    assert "more than the margin 0.0363, which follows from the rows; 0.0181 needs about 1,600" in refused.reason


def test_a_margin_that_so_many_rows_could_show_is_not_put_down_to_their_number() -> None:
    verdict = judged(wins=6, losses=18, margin=0.04)
    assert not verdict.passed and verdict.reason.endswith("more than the margin 0.0400")


def by_loss(theirs: np.ndarray, ours: np.ndarray) -> Verdict:
    """With the margin that follows from the rows."""
    one, other = (Scores(each, np.ones(len(each), dtype=np.int64), None, None) for each in (theirs, ours))
    experiment = Experiment.model_construct(evaluate=Evaluate(), promotion=PromotionConfig())
    return judge_no_worse(CHAMPION, one, other, "loss", experiment, "f")


def test_one_row_that_is_lost_widens_no_margin_until_it_passes() -> None:
    draw = np.random.default_rng(3)
    theirs = 1 + 0.02 * draw.standard_normal(60)
    ours = theirs + 0.01 * draw.standard_normal(60)
    assert by_loss(theirs, ours).passed
    ours[0] += 50
    refused = by_loss(theirs, ours)
    assert refused.passed is False and refused.numbers["margin"] == pytest.approx(0.5, rel=0.02)
    assert "needs about" in refused.reason


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("row", [1.5, np.nan, np.inf])
def test_a_loss_without_spread_or_without_a_number_is_refused_in_words(row: float) -> None:
    theirs, ours = np.ones(60), np.full(60, 1.5)
    ours[0] = row
    assert by_loss(theirs, ours).passed is False


def test_too_few_rows_are_refused_before_an_engine_starts_for_them(
    run: RunDirectory, champion: Registry, evaluate, engines
) -> None:
    evaluate(rows=39)
    words = "39 test rows are too few to judge by, promotion.min_rows asks for 40"
    with pytest.raises(GateRefusedError, match=f"gain: {words}"):
        promote(run, champion)
    with pytest.raises(GateRefusedError, match=f"no_worse: {words}"):
        promote(run, champion, skip=["gain"])
    assert engines.asked == []
    evaluate(rows=40)
    assert promote(run, champion).version == 2


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
