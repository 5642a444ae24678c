"""`search.metrics` and `search.best`: what they may say, and the line a mistake gets."""

from __future__ import annotations

import pytest

from raytune_ft.config.search.goals import BestRule

END = "  trials: 4\n"
TWO = "  metrics: [{name: eval_loss}, {name: adapter_mib}]\n"


@pytest.mark.parametrize(
    "text", ["eval_loss within 1 %", "eval_loss within 1%", "  eval_loss  within  1.0 % ", "eval_loss within 01 %"]
)
def test_a_rule_may_be_spaced_as_one_likes(text) -> None:
    assert BestRule.parse(text) == BestRule("eval_loss", 0.01)


@pytest.mark.parametrize("text", ["", "smallest", "eval_loss within 1", "eval_loss within -1 %", "within 1 %", "1 %"])
def test_anything_else_is_no_rule_and_shown_how_to_write_one(text) -> None:
    with pytest.raises(ValueError, match=r"is no rule; write it as `eval_loss within 1 %`"):
        BestRule.parse(text)


def test_the_goals_are_the_metrics_or_else_the_metric(load) -> None:
    assert [(goal.name, goal.mode) for goal in load().search.goals] == [("eval_loss", "min")]
    three = "  metrics: [{name: eval_loss}, {name: adapter_mib}, {name: tokens, mode: max}]\n"
    goals = load((END, END + three)).search.goals
    assert [(goal.name, goal.mode) for goal in goals] == [
        ("eval_loss", "min"),
        ("adapter_mib", "min"),
        ("tokens", "max"),
    ]
    assert load((END, END + TWO + "  best: eval_loss within 1 %\n")).search.best == "eval_loss within 1 %"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            "  metrics: [{name: eval_loss}, {name: accuracy}]\n",
            "18: search.metrics.1.name: metric 'accuracy' is not reported by trials of objective sft; use one of: "
            "eval_loss, adapter_mib, train_seconds, tokens",
        ),
        (
            "  metric: eval_los\n",
            "18: search.metric: metric 'eval_los' is not reported by trials of objective sft; did you mean eval_loss?",
        ),
        (
            "  metrics: [{name: eval_loss}, {name: tokens}, {name: tokens}]\n",
            "18: search.metrics: eval_loss, tokens, tokens: repeat; each stands once",
        ),
        (
            "  metrics: [{name: adapter_mib}, {name: eval_loss}]\n",
            "18: search.metrics: adapter_mib can't lead: only eval_loss tells of a trial before its end how good it "
            "is; put eval_loss first",
        ),
        (
            "  metrics: [{name: eval_loss, mode: max}, {name: tokens}]\n",
            "18: search.metrics: max would look for the greatest eval_loss, the worst; use mode: min",
        ),
        (
            "  metric: tokens\n",
            "18: search.metric: tokens can't lead: only eval_loss tells of a trial before its end how good it is; "
            "name it in metrics, after eval_loss",
        ),
        (
            "  mode: max\n",
            "18: search.mode: max would look for the greatest eval_loss, the worst; use min, or leave it out",
        ),
        (
            TWO + "  best: eval_loss within 1 % of tokens\n",
            "19: search.best: 'eval_loss within 1 % of tokens' is no rule; write it as `eval_loss within 1 %`",
        ),
        (
            TWO + "  best: tokens within 1 %\n",
            "19: search.best: 'tokens within 1 %' speaks of tokens, which metrics does not name; "
            "use eval_loss or adapter_mib",
        ),
        (
            "  best: eval_loss within 1 %\n",
            "18: search.best: 'eval_loss within 1 %' leaves nothing to decide by; name eval_loss and another one in "
            "metrics",
        ),
    ],
)
def test_a_mistake_is_one_line_with_its_place_and_remedy(problem, lines, message) -> None:
    assert problem((END, END + lines)) == f"experiment.yaml:{message}"


def test_a_wrong_metric_is_told_once_and_the_rule_not_blamed(problem) -> None:
    line = problem((END, END + "  metrics: [{name: eval_loss}, {name: bytes}]\n  best: eval_loss within 1 %\n"))
    assert "\n" not in line and "metric 'bytes' is not reported" in line
