"""Scores a model on prepared preference rows: the log-probability of both answers to each question."""

from __future__ import annotations

from typing import Any

from raytune_ft.objectives.parts import Scoring
from raytune_ft.objectives.scoring.names import CHOSEN, REJECTED
from raytune_ft.objectives.scoring.passes import in_batches
from raytune_ft.objectives.scoring.reading import Reader, Reading
from raytune_ft.objectives.scoring.scores import Scores
from raytune_ft.objectives.scoring.within_memory import WithinMemory


def score_preferences(model: Any, rows: Any, how: Scoring) -> Scores:
    """Scores `model` on n rows without generating text; no reference model is asked.

    Args:
        model: A causal language model.
        rows: Rows with `prompt_ids`, `chosen_ids` and `rejected_ids`.
        how: Batch size, progress and padding; its labels are not used.

    Raises:
        RaytuneError: A row doesn't fit into memory even alone.
    """
    import numpy as np

    sums, tokens = np.zeros((len(rows), 2)), np.zeros((len(rows), 2), dtype=np.int64)
    passes = [
        (at, side, len(prompt) + len(answer))
        for at, (prompt, *answers) in enumerate(
            zip(rows["prompt_ids"], rows["chosen_ids"], rows["rejected_ids"], strict=True)
        )
        for side, answer in enumerate(answers)
    ]
    model.eval()
    read = WithinMemory(Reader(model, how.pad_token_id), how.log)
    for batch in in_batches(passes, lambda each: each[2], how.batch_size, how.progress, len(rows)):
        found = read([_reading(rows[at], side) for at, side, _ in batch])
        for (at, side, _), logprobs in zip(batch, found, strict=True):
            sums[at, side], tokens[at, side] = sum(logprobs), len(logprobs)
    means = sums / tokens
    return Scores(-means[:, 0], tokens[:, 0], more={CHOSEN: means[:, 0], REJECTED: means[:, 1]})


def _reading(row: Any, side: int) -> Reading:
    prompt, answer = row["prompt_ids"], row[("chosen_ids", "rejected_ids")[side]]
    return Reading([*prompt, *answer], [(len(prompt) + at, token) for at, token in enumerate(answer)])
