"""What is shown of the rows beside the numbers."""

from __future__ import annotations

import numpy as np

from raytune_ft.data.rows import Conversation, Message, PromptCompletion, Row
from raytune_ft.evaluation.compare import EXAMPLES, _examples
from raytune_ft.evaluation.row_progress import RowProgress
from raytune_ft.objectives.scoring.scores import Scores


def chosen(choice: list[int] | None) -> Scores:
    rows = 0 if choice is None else len(choice)
    return Scores(np.zeros(rows), np.ones(rows), None if choice is None else np.array(choice), None)


def test_rows_on_which_the_systems_disagree_come_first() -> None:
    rows = [PromptCompletion(f"p{index}", " a", index) for index in range(30)]
    base, winner = [0] * 30, [0] * 28 + [1, 1]
    shown = _examples(rows, chosen(base), chosen(winner), [" a", " b"])
    assert [example["row"] for example in shown] == [28, 29, *range(EXAMPLES - 2)]
    assert shown[0] == {"row": 28, "prompt": "p28", "expected": " a", "base": " a", "winner": " b"}


def test_without_labels_the_rows_are_shown_alone() -> None:
    turns = (Message("user", "q"), Message("assistant", "a"))
    rows: list[Row] = [PromptCompletion("", "x", 1), Conversation(turns, 2)]
    shown = _examples(rows, chosen(None), chosen(None), [])
    assert [(each["prompt"], each["expected"], each["base"], each["winner"]) for each in shown] == [
        ("", "x", None, None),
        ([{"role": "user", "content": "q"}], "a", None, None),
    ]


def test_a_long_evaluation_says_every_few_seconds_how_fast_it_is_and_how_long_it_will_take() -> None:
    lines: list[str] = []
    now = [0.0]
    progress = RowProgress(lines.append, "base", clock=lambda: now[0])
    for done in range(10, 401, 10):
        now[0] += 0.5  # 20 rows a second
        progress(done, 400)
    assert lines == [
        "base: 100 of 400 test rows scored, 20.0 rows/s, about 15 s left",
        "base: 200 of 400 test rows scored, 20.0 rows/s, about 10 s left",
        "base: 300 of 400 test rows scored, 20.0 rows/s, about 5 s left",
        "base: 400 of 400 test rows scored, 20.0 rows/s",
    ]
