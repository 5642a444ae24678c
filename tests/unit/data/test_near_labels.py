"""The remedy for an answer that is none of the labels."""

from __future__ import annotations

import pytest

from raytune_ft.data.tokens.near_labels import label_remedy


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (" yes", "it differs from 'yes' in white space: write the label as ' yes', or mend the rows"),
        ("Yes", "it differs from 'yes' in capitals: write the label as 'Yes', or mend the rows"),
        ("maybe", "add it to the labels, or mend the row"),
        (" ", "add it to the labels, or mend the row"),
    ],
)
def test_an_answer_that_is_nearly_a_label_is_told_how(answer: str, told: str) -> None:
    assert label_remedy(answer, ["yes", "no"]) == told
