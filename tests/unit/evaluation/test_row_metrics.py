"""What evaluates rows agrees with what is known of the metrics by name."""

from __future__ import annotations

import numpy as np
import pytest

from raytune_ft.evaluation import metrics
from raytune_ft.evaluation.metrics import metric_value, row_differences
from raytune_ft.metrics.named import OF_ROWS, deciding_metric, less_is_better, task_metrics
from raytune_ft.objectives.scoring.names import CHOSEN, REJECTED
from raytune_ft.objectives.scoring.scores import Scores


def scores(choice: list[int]) -> Scores:
    expected = np.array([0, 1, 0, 1])
    preferred = np.array(choice) == expected
    more = {CHOSEN: np.where(preferred, -0.5, -0.9), REJECTED: np.full(4, -0.7)}
    return Scores(np.full(4, 0.5), np.full(4, 3), np.array(choice), expected, more)


@pytest.mark.parametrize("name", OF_ROWS)
def test_every_metric_that_evaluate_knows_has_a_value_and_differences_by_row(name: str) -> None:
    one, other = scores([1, 1, 0, 0]), scores([0, 1, 0, 0])
    difference = row_differences(name, one, other)
    assert difference.values.shape == (4,)
    assert difference.values.mean() == pytest.approx(metric_value(name, other) - metric_value(name, one), abs=1e-12)
    assert difference.least <= difference.values.min() and difference.values.max() <= difference.most + 1e-12


def test_a_metric_whose_rows_nobody_wrote_down_is_refused_and_not_taken_for_another() -> None:
    with pytest.raises(ValueError, match="'bleu' has no differences by row"):
        row_differences("bleu", scores([1, 1, 0, 0]), scores([0, 1, 0, 0]))


def test_a_mean_over_rows_takes_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(metrics.OF_A_ROW, "error_rate", lambda scores: scores.choice != scores.expected)
    one, other = scores([1, 1, 0, 0]), scores([0, 1, 0, 0])
    assert metric_value("error_rate", one) == 0.5
    assert row_differences("error_rate", one, other).values.tolist() == [-1.0, 0.0, 0.0, 0.0]


def test_a_comparison_is_decided_by_the_first_metric_that_is_no_loss() -> None:
    assert deciding_metric(["loss", "macro_f1", "accuracy"]) == "macro_f1" and deciding_metric(["loss"]) == "loss"
    assert deciding_metric([]) is None and task_metrics(["loss", "accuracy", "theirs"]) == ["accuracy", "theirs"]
    assert less_is_better("loss") and less_is_better("eval_loss") and not less_is_better("accuracy")
