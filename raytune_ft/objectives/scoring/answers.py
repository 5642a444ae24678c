"""Scores a model on tokenised rows: the loss of each answer, and the likeliest label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from raytune_ft.data.tokens.labels import RowLabels
from raytune_ft.data.tokens.tokenize import IGNORED
from raytune_ft.errors import IntegrityError
from raytune_ft.objectives.scoring.choices import Path, Step, further_answers, likeliest, steps_of
from raytune_ft.objectives.scoring.passes import in_batches
from raytune_ft.objectives.scoring.reading import Reader, Reading
from raytune_ft.objectives.scoring.scores import Scores
from raytune_ft.objectives.scoring.within_memory import WithinMemory


def score_answers(
    model: Any,
    rows: Any,
    pad_token_id: int,
    batch_size: int,
    progress: Callable[[int, int], None] = lambda done, rows: None,
    labels: Sequence[RowLabels] | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Scores:
    """Scores `model` on `rows` without generating text.

    Rows of similar length share a forward pass, in an order of `passes.in_batches`.

    Args:
        model: A causal language model.
        rows: n rows with `input_ids` and `labels` (-100 where there is no loss), as `data` writes them.
        pad_token_id: Token that pads shorter rows on the left.
        batch_size: Rows of one forward pass; fewer if they don't fit into memory.
        progress: Called with the number of rows done and of all rows.
        labels: The labels of each row that its answer is compared with, or None.
        log: Receives a line if memory runs out.

    Raises:
        IntegrityError: The labels' tokens are not those of the rows.
        RaytuneError: A row doesn't fit into memory even alone.
    """
    import numpy as np

    compared: Sequence[RowLabels | None] = labels or [None] * len(rows)
    pairs = enumerate(zip(rows["input_ids"], compared, strict=True))
    passes = [each for at, (ids, own) in pairs for each in _passes(at, ids, own)]
    loss, tokens = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.int64)
    found: list[dict[Step, float]] = [{} for _ in range(len(rows))]
    model.eval()
    read = WithinMemory(Reader(model, pad_token_id), log)
    for batch in in_batches(passes, lambda each: each.length, batch_size, progress, len(rows)):
        targets = [_targets(rows[each.row]["labels"]) if each.further is None else [] for each in batch]
        values = read([each.reading(rows[each.row], own) for each, own in zip(batch, targets, strict=True)])
        for each, own, logprobs in zip(batch, targets, values, strict=True):
            if each.further is None:
                loss[each.row], tokens[each.row] = -sum(logprobs[: len(own)]) / len(own), len(own)
            found[each.row].update(zip(each.steps, logprobs[len(own) :], strict=True))
    if not labels:
        return Scores(loss, tokens, None, None)
    choice = [likeliest(own.labels, steps) for own, steps in zip(labels, found, strict=True)]
    return Scores(loss, tokens, np.array(choice, np.int64), np.array([own.expected for own in labels], np.int64))


def answer_logprobs(model: Any, rows: list[dict[str, Any]], pad_token_id: int) -> list[list[float]]:
    """Returns the log-probabilities in nats of each row's tokens with a loss, in the row's order.

    It takes one forward pass, or more if memory runs out.
    """
    read = WithinMemory(Reader(model, pad_token_id))
    return read([Reading(row["input_ids"], _targets(row["labels"])) for row in rows])


@dataclass(frozen=True)
class _Pass:
    """One row to read, with its own answer or with a prefix of another one.

    Attributes:
        row: Index of the row.
        length: Number of tokens to read.
        further: Prefix of the other answer; None for the row's own.
        steps: The labels' predictions that this pass yields.
        context: Number of tokens before the answer.
    """

    row: int
    length: int
    further: Path | None
    steps: Sequence[Step]
    context: int = 0

    def reading(self, row: dict[str, Any], targets: list[tuple[int, int]]) -> Reading:
        ids = row["input_ids"] if self.further is None else [*row["input_ids"][: self.context], *self.further]
        return Reading(ids, [*targets, *((self.context + len(path), token) for path, token in self.steps)])


def _passes(at: int, ids: Sequence[int], own: RowLabels | None) -> list[_Pass]:
    if own is None:
        return [_Pass(at, len(ids), None, ())]
    context = len(ids) - len(own.answer)
    if context < 1 or tuple(ids[context:]) != own.answer:
        raise IntegrityError(f"test row {at + 1}: its tokens are not those of its text; run the sweep again")
    further = further_answers(own.answer, own.labels)
    steps = steps_of([own.answer, *further], own.labels)
    return [
        _Pass(at, len(ids), None, steps[0], context),
        *(_Pass(at, context + len(path), path, here, context) for path, here in zip(further, steps[1:], strict=True)),
    ]


def _targets(labels: Sequence[int]) -> list[tuple[int, int]]:
    """Returns position and id of each token with a loss; the first token never has one."""
    return [(place, label) for place, label in enumerate(labels) if label != IGNORED and place]
