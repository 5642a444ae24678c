"""A search goes by metrics that its objective reports; each refusal is one line with its place."""

from __future__ import annotations

import pytest

SFT = "objective: {type: sft, loss_on: completion}"
DPO = (SFT, "objective: {type: dpo}")
END = "  trials: 4\n"
RATE = "parameters: {train.learning_rate: {loguniform: [1e-6, 1e-4]}}\n"
BETA = "parameters: {objective.beta: {loguniform: [0.01, 0.5]}}\n"


def search(line: str) -> tuple[str, str]:
    return END, f"{END}  {line}\n"


def test_the_objectives_metrics_and_what_is_spent_may_be_goals(load) -> None:
    assert load(DPO).search.goals[0].name == "eval_preference_accuracy"
    named = "metrics: [{name: eval_loss}, {name: eval_chosen_loss}, {name: adapter_mib}]"
    assert len(load(DPO, search(named)).search.goals) == 3
    assert load(DPO, search("metric: eval_loss"), space=RATE).search.goals[0].mode == "min"


@pytest.mark.parametrize(
    ("changes", "line", "message"),
    [
        (
            (), "metric: eval_preference_accuracy",
            "18: search.metric: metric 'eval_preference_accuracy' is not reported by trials of objective sft; "
            "use one of: eval_loss, adapter_mib, train_seconds, tokens",
        ),
        (
            (DPO,), "metric: eval_preference_acuracy",
            "18: search.metric: metric 'eval_preference_acuracy' is not reported by trials of objective dpo; "
            "did you mean eval_preference_accuracy?",
        ),
        (
            (DPO,), "metrics: [{name: eval_loss}, {name: rouge}]",
            "18: search.metrics.1.name: metric 'rouge' is not reported by trials of objective dpo; use one of: "
            "eval_preference_accuracy, eval_loss, eval_chosen_loss, adapter_mib, train_seconds, tokens",
        ),
        (
            (DPO,), "metric: eval_chosen_loss",
            "18: search.metric: eval_chosen_loss can't lead: only eval_preference_accuracy or eval_loss tells of a "
            "trial before its end how good it is; name it in metrics, after eval_preference_accuracy",
        ),
        (
            (DPO,), "metrics: [{name: tokens}, {name: eval_loss}]",
            "18: search.metrics: tokens can't lead: only eval_preference_accuracy or eval_loss tells of a trial before "
            "its end how good it is; put eval_preference_accuracy or eval_loss first",
        ),
        (
            (DPO,), "mode: min",
            "18: search.mode: min would look for the least eval_preference_accuracy, the worst; use max, or leave it "
            "out",
        ),
        (
            (DPO,), "metrics: [{name: eval_preference_accuracy, mode: min}, {name: tokens}]",
            "18: search.metrics: min would look for the least eval_preference_accuracy, the worst; use mode: max",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_its_place_and_remedy(problem, changes, line: str, message: str) -> None:
    assert problem(*changes, search(line)) == f"experiment.yaml:{message}"


@pytest.mark.parametrize(
    "line", ["metric: eval_loss", "metrics: [{name: eval_preference_accuracy}, {name: eval_loss}]"]
)
def test_a_loss_whose_meaning_is_searched_compares_nothing(problem, line: str) -> None:
    assert problem(DPO, search(line), space=BETA) == (
        "space.yaml:1: search.space.parameters.objective.beta: eval_loss depends on objective.beta, so trials that "
        "differ in it can't be compared by it; search for eval_preference_accuracy, or set "
        "objective.beta for all trials"
    )


def test_a_metric_whose_meaning_stays_compares_whatever_is_searched(load) -> None:
    both = "metrics: [{name: eval_preference_accuracy}, {name: eval_chosen_loss}]"
    assert len(load(DPO, search(both), space=BETA).search.goals) == 2
