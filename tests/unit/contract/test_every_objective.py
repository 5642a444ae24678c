"""What every objective that trains language models does alike; a new one passes this by being in `ROOMS`."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from datasets import load_from_disk

from raytune_ft.config.objectives.choice import OBJECTIVES
from raytune_ft.data.arrow_rows import column_lengths
from raytune_ft.data.prepared import MANIFEST
from raytune_ft.data.tokens.tokenize import IGNORED
from raytune_ft.data.tokens.tokenizer import load_tokenizer
from raytune_ft.errors import InputError
from raytune_ft.evaluation.interval import paired_interval
from raytune_ft.evaluation.metrics import metric_value
from raytune_ft.evaluation.recorded import scores_from_json, scores_to_json
from raytune_ft.execution.runner import choose_runner
from raytune_ft.methods.rooms import ROOMS as METHOD_ROOMS
from raytune_ft.metrics.named import OF_ROWS, OF_TRIALS
from raytune_ft.objectives.parts import Scoring
from raytune_ft.objectives.prepared import prepare
from raytune_ft.objectives.rooms import ROOMS
from raytune_ft.paths import read_json

NAMES = sorted(ROOMS)


def test_each_objective_has_facts_and_functions_or_a_trainer_of_its_own() -> None:
    assert OBJECTIVES.keys() == ROOMS.keys() | {"custom"}


@pytest.mark.parametrize("name", NAMES)
def test_its_facts_agree_with_its_functions_and_the_metrics(name: str) -> None:
    facts, room = OBJECTIVES[name], ROOMS[name]
    assert (room.lane_loss() is None) == (facts.not_on_lanes is not None)
    assert facts.reports[0].leads and all(OF_TRIALS[each.name] == each for each in facts.reports)
    assert facts.diverges_by in (None, *(each.name for each in facts.reports))
    assert set(facts.evaluated_by) <= set(facts.row_metrics) <= OF_ROWS.keys()
    assert set(facts.searched) <= facts.model_fields.keys() and facts.scales.keys() <= OF_TRIALS.keys()


@pytest.mark.parametrize("name", NAMES)
def test_rows_become_its_columns_with_the_lengths_that_plan_counts(name: str, experiment_of, tmp_path: Path) -> None:
    experiment = experiment_of(name)
    data, room = prepare(experiment, tmp_path / "prepared"), ROOMS[name]
    encoder = room.encoder(load_tokenizer(experiment.base_model), experiment)
    rows = load_from_disk(data.split("train"))
    assert tuple(rows.column_names) == encoder.columns
    lengths, facts = room.lengths(data.split("train")), experiment.objective
    assert len(lengths.tokens) == len(rows) * facts.sequences
    assert lengths.tokens.sum() == read_json(data.directory / MANIFEST)["splits"]["train"]["tokens"]
    assert (lengths.with_loss > 0).all() and (lengths.with_loss <= lengths.tokens).all()
    assert all((column > 0).all() for column in column_lengths(data.split("train"), encoder.columns))
    answered = room.answered(rows[0])
    assert len(answered.input_ids) == len(answered.labels)
    places = [at for at, label in enumerate(answered.labels) if label != IGNORED]
    assert places and all(answered.labels[at] == answered.input_ids[at] for at in places)


@pytest.mark.parametrize("method", sorted(METHOD_ROOMS))
@pytest.mark.parametrize("name", NAMES)
def test_it_trains_with_every_method_and_reports_its_metrics(name: str, method: str, experiment_of, train) -> None:
    trained = train(experiment_of(name, method))
    assert len(trained.losses) == 12 and all(map(math.isfinite, trained.losses))
    assert sum(trained.losses[-3:]) < sum(trained.losses[:3])
    base, last = trained.reports[0], trained.reports[-1]
    for facts in trained.experiment.objective.reports:
        assert math.isfinite(base[facts.name]) and math.isfinite(last[facts.name])
    leading = trained.experiment.goals[0]
    assert (last[leading.name] < base[leading.name]) == (leading.mode == "min")


@pytest.mark.parametrize("name", NAMES)
def test_a_preempted_trial_goes_on_on_its_curve(name: str, experiment_of, train, tmp_path: Path) -> None:
    experiment = experiment_of(name)
    whole = train(experiment)
    train(experiment, stop=5)
    again = train(experiment, resume=str(tmp_path / "local/checkpoint-5"))
    assert again.losses == pytest.approx(whole.losses, rel=1e-4, abs=1e-6)
    for facts in experiment.objective.reports:
        assert again.reports[-1][facts.name] == pytest.approx(whole.reports[-1][facts.name], rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_it_scores_rows_from_which_each_of_its_metrics_is_made(name: str, experiment_of, train, tmp_path: Path) -> None:
    experiment, room = experiment_of(name), ROOMS[name]
    data = prepare(experiment, tmp_path / "prepared")
    rows, trained = load_from_disk(data.split("test")), train(experiment)
    model, how = trained.trainer.model, Scoring(pad_token_id=0, batch_size=5)
    with model.disable_adapter():
        base = room.score(model, rows, how)
    tuned = room.score(model, rows, how)
    assert len(base.loss) == len(rows) == len(tuned.tokens) and (tuned.tokens > 0).all()
    for metric in experiment.objective.evaluated_by:
        value, found = metric_value(metric, tuned), paired_interval(metric, base, tuned, 0.95)
        assert found.low <= found.mean <= found.high
        assert found.mean == pytest.approx(value - metric_value(metric, base))
    again = scores_from_json(scores_to_json(tuned))
    assert scores_to_json(again) == scores_to_json(tuned)


@pytest.mark.parametrize("name", NAMES)
def test_check_refuses_rows_and_metrics_that_it_does_not_take(name: str, experiment_of) -> None:
    facts = OBJECTIVES[name]
    other = "prompt_completion" if facts.rows == "preference" else "preference"
    with pytest.raises(InputError, match=rf"data\.format: {other} has rows with .* objective {name} takes"):
        experiment_of(name, data={"train": "x.jsonl", "format": other})
    foreign = next(metric for metric in OF_ROWS if metric not in facts.row_metrics)
    with pytest.raises(InputError, match=rf"evaluate\.metrics: {foreign} can't be made of the rows of obj"):
        experiment_of(name, evaluate={"metrics": [foreign], "labels": [" yes", " no"]})


@pytest.mark.parametrize("name", NAMES)
def test_a_lane_trains_it_or_says_why_not(name: str, experiment_of) -> None:
    reason = OBJECTIVES[name].not_on_lanes
    if reason is None:
        assert choose_runner(experiment_of(name)).runner.type == "lane"
        return
    assert choose_runner(experiment_of(name)).reason == reason
    with pytest.raises(InputError, match="type lane can't serve"):
        choose_runner(experiment_of(name, runner={"type": "lane"}))


@pytest.mark.parametrize("name", NAMES)
def test_its_words_name_it(name: str, experiment_of) -> None:
    assert name in ROOMS[name].words(experiment_of(name))
