"""What a model makes of tokenised rows: each answer's loss, and the label whose token it finds likeliest."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raytune_ft.data.tokenize import IGNORED
from raytune_ft.errors import InputError

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


def label_tokens(tokenizer: Any, labels: Sequence[str]) -> list[int]:
    """First token of each label; labels must differ in it.

    Raises:
        InputError: When two labels begin with the same token, so that one logit can't tell them apart.
    """
    first: dict[int, str] = {}
    for label in labels:
        token = next(iter(tokenizer(label, add_special_tokens=False)["input_ids"]), None)
        if token is None:
            raise InputError("evaluate.labels", f"{label!r} has no tokens", "reword it")
        if token in first:
            raise InputError(
                "evaluate.labels", f"{first[token]!r} and {label!r} begin with the same token", "reword one"
            )
        first[token] = label
    return list(first)


def score(
    model: Any,
    rows: Any,
    pad_token_id: int,
    candidates: Sequence[int],
    batch_size: int,
    progress: Callable[[int, int], None],
) -> Scores:
    """Runs `model` over `rows` without generating.

    Args:
        model: A causal language model that takes `logits_to_keep`.
        rows: n rows with `input_ids` and `labels` (-100 where no loss), as `data` writes them.
        pad_token_id: Fills shorter rows from the left.
        candidates: First token of each label, or empty.
        batch_size: Rows of one forward pass; rows of like length go together, and passes come in an order in which
            their lengths do not grow, so that the rows done tell how long the others take.
        progress: Told rows done and rows in all.
    """
    import numpy as np
    import torch

    order = np.argsort([len(ids) for ids in rows["input_ids"]], kind="stable")
    loss, tokens = np.zeros(len(order)), np.zeros(len(order), dtype=np.int64)
    choice, expected = np.zeros(len(order), dtype=np.int64), np.zeros(len(order), dtype=np.int64)
    model.eval()
    starts, done = list(range(0, len(order), batch_size)), 0
    random.Random(0).shuffle(starts)
    with torch.inference_mode():
        for start in starts:
            index = order[start : start + batch_size]
            batch = [rows[int(i)] for i in index]
            nll, answers, first_logits, first_tokens = _forward(model, batch, pad_token_id)
            loss[index], tokens[index] = nll.numpy(), answers.numpy()
            if candidates:
                choice[index] = first_logits[:, list(candidates)].argmax(dim=1).numpy()
                expected[index] = [_position(candidates, int(token)) for token in first_tokens]
            done += len(index)
            progress(done, len(order))
    return Scores(loss, tokens, choice if candidates else None, expected if candidates else None)


def answer_logprobs(model: Any, rows: list[dict[str, Any]], pad_token_id: int) -> list[list[float]]:
    """Log-probability, in nats, of each token of each row that carries loss, in the row's order; one forward pass."""
    import torch

    with torch.inference_mode():
        nll, target, _ = _nll(model, rows, pad_token_id)
    return [(-each[counted]).tolist() for each, counted in zip(nll, target != IGNORED, strict=True)]


def _forward(model: Any, batch: list[dict[str, Any]], pad_token_id: int) -> tuple[Any, Any, Any, Any]:
    """Per row: mean answer loss, answer tokens, logits and id of the answer's first token."""
    import torch

    nll, target, logits = _nll(model, batch, pad_token_id)
    counted = target != IGNORED
    answers = counted.sum(dim=1)
    first = counted.int().argmax(dim=1)
    each = torch.arange(len(batch))
    return nll.sum(dim=1) / answers, answers, logits[each, first], target[each, first]


def _nll(model: Any, batch: list[dict[str, Any]], pad_token_id: int) -> tuple[Any, Any, Any]:
    """Over the last positions that hold all answers: (rows, w) loss, 0 where there is none, (rows, w) the true tokens,
    -100 where there is no loss, and (rows, w, vocabulary) logits, float32."""
    import torch

    width = max(len(row["input_ids"]) for row in batch)
    ids = torch.full((len(batch), width), pad_token_id)
    mask = torch.zeros((len(batch), width), dtype=torch.long)
    labels = torch.full((len(batch), width), IGNORED)
    for row, values in enumerate(batch):
        length = len(values["input_ids"])
        ids[row, width - length :] = torch.tensor(values["input_ids"])
        mask[row, width - length :] = 1
        labels[row, width - length + 1 :] = torch.tensor(values["labels"][1:])  # the first is predicted from nothing
    keep = width - int((labels != IGNORED).int().argmax(dim=1).min()) + 1
    device = next(model.parameters()).device
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    output = model(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        position_ids=positions.to(device),
        logits_to_keep=min(keep, width),
    )
    logits = output.logits.float().cpu()[:, :-1]
    target = labels[:, -logits.shape[1] :]
    nll = torch.nn.functional.cross_entropy(logits.transpose(1, 2), target, ignore_index=IGNORED, reduction="none")
    return nll, target, logits


def _position(candidates: Sequence[int], token: int) -> int:
    if token not in candidates:
        raise InputError(
            "evaluate.labels", f"a test row's answer begins with token {token}, no label's", "add its label"
        )
    return candidates.index(token)
