"""What a model makes of tokenised rows: each answer's loss, and the label that it finds likeliest."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raytune_ft.data.tokens.labels import RowLabels
from raytune_ft.data.tokens.tokenize import IGNORED
from raytune_ft.errors import IntegrityError
from raytune_ft.evaluation.choices import Path, Step, further_answers, likeliest, steps_of
from raytune_ft.evaluation.reading import Reader, Reading
from raytune_ft.evaluation.within_memory import WithinMemory

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Scores:
    """One model on n rows.

    Attributes:
        loss: (n,) float64, mean negative log-likelihood per answer token, in nats.
        tokens: (n,) int64, answer tokens.
        choice: (n,) int64, index of the chosen label, or None without labels.
        expected: (n,) int64, index of the true label, or None without labels.
    """

    loss: np.ndarray
    tokens: np.ndarray
    choice: np.ndarray | None
    expected: np.ndarray | None


def score(
    model: Any,
    rows: Any,
    pad_token_id: int,
    batch_size: int,
    progress: Callable[[int, int], None] = lambda done, rows: None,
    labels: Sequence[RowLabels] | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Scores:
    """Runs `model` over `rows` without generating.

    Args:
        model: A causal language model.
        rows: n rows with `input_ids` and `labels` (-100 where no loss), as `data` writes them.
        pad_token_id: Fills shorter rows from the left.
        batch_size: Rows of one forward pass, fewer where they don't fit into memory; rows of like length go together,
            and passes come in an order in which their lengths do not grow, so that what is done tells how long the
            others take.
        progress: Told rows done and rows in all.
        labels: What each row's answer is compared with; None where there are no labels.
        log: Told where memory ran out.

    Raises:
        IntegrityError: The labels' tokens are not those of the rows.
        RaytuneError: A row doesn't fit into memory even alone.
    """
    import numpy as np

    compared: Sequence[RowLabels | None] = labels or [None] * len(rows)
    pairs = enumerate(zip(rows["input_ids"], compared, strict=True))
    passes = [each for at, (ids, own) in pairs for each in _passes(at, ids, own)]
    passes.sort(key=lambda each: each.length)
    loss, tokens = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.int64)
    found: list[dict[Step, float]] = [{} for _ in range(len(rows))]
    model.eval()
    read = WithinMemory(Reader(model, pad_token_id), log)
    starts, done = list(range(0, len(passes), batch_size)), 0
    random.Random(0).shuffle(starts)
    for start in starts:
        batch = passes[start : start + batch_size]
        targets = [_targets(rows[each.row]["labels"]) if each.further is None else [] for each in batch]
        values = read([each.reading(rows[each.row], own) for each, own in zip(batch, targets, strict=True)])
        for each, own, logprobs in zip(batch, targets, values, strict=True):
            if each.further is None:
                loss[each.row], tokens[each.row] = -sum(logprobs[: len(own)]) / len(own), len(own)
            found[each.row].update(zip(each.steps, logprobs[len(own) :], strict=True))
        done += len(batch)
        progress(done * len(rows) // len(passes), len(rows))
    if not labels:
        return Scores(loss, tokens, None, None)
    choice = [likeliest(own.labels, steps) for own, steps in zip(labels, found, strict=True)]
    return Scores(loss, tokens, np.array(choice, np.int64), np.array([own.expected for own in labels], np.int64))


def answer_logprobs(model: Any, rows: list[dict[str, Any]], pad_token_id: int) -> list[list[float]]:
    """Log-probability, in nats, of each token of each row that carries loss, in the row's order; one forward pass, or
    more where memory runs out."""
    read = WithinMemory(Reader(model, pad_token_id))
    return read([Reading(row["input_ids"], _targets(row["labels"])) for row in rows])


@dataclass(frozen=True)
class _Pass:
    """One row with its own answer, or with the beginning of another one.

    Attributes:
        row: Its number.
        length: Tokens to read.
        further: The other answer's beginning; None for its own.
        steps: What is asked for the labels.
        context: Tokens before the answer.
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
    """Places and tokens with a loss; the first is predicted from nothing."""
    return [(place, label) for place, label in enumerate(labels) if label != IGNORED and place]
