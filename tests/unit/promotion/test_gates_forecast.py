"""What is said of the test rows before anything starts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.config.data import DataConfig
from raytune_ft.config.experiment import Evaluate, Experiment
from raytune_ft.config.promotion import PromotionConfig
from raytune_ft.promotion.gates_forecast import proof_of, proof_words, too_few_rows


def experiment(metrics: list[str], **promotion: Any) -> Experiment:
    evaluate = Evaluate.model_validate({"metrics": metrics, "labels": [" a", " b"]})
    data = DataConfig.model_construct(max_test_rows=30)
    return Experiment.model_construct(evaluate=evaluate, promotion=PromotionConfig.model_validate(promotion), data=data)


def words(metrics: list[str], rows: int, **promotion: Any) -> str:
    proof = proof_of(experiment(metrics, **promotion), rows)
    assert proof is not None
    return proof_words(proof)


def test_the_margin_that_follows_from_the_rows_is_said_and_what_half_of_it_needs() -> None:
    assert words(["loss", "accuracy"], 400) == (
        "with 400 test rows, no_worse can rule out that accuracy falls by 0.036 (two that differ on 6 % of the rows) "
        "to 0.075 (25 %); half needs about 1,600"
    )


def test_a_margin_that_was_asked_for_is_said_with_the_rows_that_it_takes() -> None:
    assert words(["accuracy"], 400, no_worse={"margin": 0.02}) == (
        "400 test rows; to rule out that accuracy falls by 0.02 takes about 1,400 "
        "(two that differ on 6 % of the rows) to 5,700 (25 %)"
    )


def test_of_a_loss_the_margin_is_in_the_spread_of_the_rows() -> None:
    assert words(["loss"], 400).startswith("with 400 test rows, no_worse can rule out a loss greater by 0.16 standard")
    assert words(["loss"], 400, no_worse={"margin": 0.1}).endswith(
        "about 1,600; asked is 0.1 nats, which only a promotion can tell"
    )


@pytest.mark.parametrize(("rows", "promotion"), [(None, {}), (1, {}), (400, {"no_worse": None})])
def test_nothing_is_said_where_nothing_will_be_compared(rows: int | None, promotion: dict[str, Any]) -> None:
    assert proof_of(experiment(["loss"], **promotion), rows) is None
    assert proof_of(experiment(["macro_f1"]), 400) is None  # it depends on how many rows each label has


def test_too_few_rows_are_a_warning_that_names_the_gates() -> None:
    assert too_few_rows(experiment(["loss"]), 40) is None and too_few_rows(experiment(["loss"]), None) is None
    assert too_few_rows(experiment(["loss"], gain=None), 39) == (
        "data.test: 39 rows are fewer than promotion.min_rows 40: no_worse will refuse; give more rows, or set it lower"
    )
    assert "; raise data.max_test_rows, or" in (too_few_rows(experiment(["loss"]), 30) or "")
    assert too_few_rows(experiment(["loss"], gain=None, no_worse=None), 3) is None


def test_the_pages_table_is_what_the_functions_say() -> None:
    page = (Path(__file__).parents[3] / "docs/promotion.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| ([\d,]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)
    assert len(lines) == 7
    for count, alike, apart, loss in lines:
        rows = int(count.replace(",", ""))
        for metric, shown in (("accuracy", (alike, apart)), ("loss", (loss, loss))):
            proof = proof_of(experiment([metric]), rows)
            assert proof is not None
            digits = 3 if metric == "accuracy" else 2
            assert (f"{proof.least:.{digits}f}", f"{proof.most:.{digits}f}") == shown
