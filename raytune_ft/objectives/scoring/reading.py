"""Computes a model's log-probabilities of given tokens at given positions, without all logits in memory at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from raytune_ft.errors import InputError

LOGITS_AT_ONCE = 2**25
"""Most logits in memory at once; 128 MiB as float32, which is 256 positions of a vocabulary of 128k."""


@dataclass(frozen=True)
class Reading:
    """Tokens that a model reads, and the predictions that are asked for.

    Attributes:
        ids: The token ids.
        asked: Pairs (place, token), which ask for the probability of `token` at position `place` after all `ids` before
            it. Places begin with 1, because the first token has nothing before it.
    """

    ids: Sequence[int]
    asked: Sequence[tuple[int, int]]


class Reader:
    """Runs body and head of a causal language model separately.

    The head is run for at most `LOGITS_AT_ONCE` logits at a time, through the model's own code, which may scale or cap
    them.

    Args:
        model: A model of transformers, or PEFT's wrapper around one.
        pad_token_id: Token that pads shorter rows on the left.

    Raises:
        InputError: The model doesn't say which part of it is the body.
    """

    def __init__(self, model: Any, pad_token_id: int) -> None:
        self._model = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._body, self._pad = self._model.get_decoder(), pad_token_id
        if self._body is self._model:
            what = f"{type(self._model).__name__} doesn't tell its decoder from its head"
            raise InputError("base_model", what, "use a causal language model that transformers has")
        vocabulary: int = self._model.config.get_text_config().vocab_size
        self._positions = max(1, LOGITS_AT_ONCE // vocabulary)

    def __call__(self, batch: Sequence[Reading]) -> list[list[float]]:
        """Returns the log-probabilities in nats that each reading asks for, in one forward pass."""
        if not any(reading.asked for reading in batch):
            return [[] for _ in batch]
        import torch

        width = max(len(reading.ids) for reading in batch)
        ids = torch.full((len(batch), width), self._pad)
        mask = torch.zeros((len(batch), width), dtype=torch.long)
        for row, reading in enumerate(batch):
            ids[row, width - len(reading.ids) :] = torch.tensor(reading.ids)
            mask[row, width - len(reading.ids) :] = 1
        # Labels may ask for several tokens at one position; the head is run once for it.
        asked = [
            ((row, width - len(reading.ids) + place - 1), token)
            for row, reading in enumerate(batch)
            for place, token in reading.asked
        ]
        number = {position: at for at, position in enumerate(dict.fromkeys(position for position, _ in asked))}
        with torch.inference_mode():
            body, hidden = self._hidden(ids, mask, list(number))
            numbers = torch.tensor([number[position] for position, _ in asked], device=hidden.device)
            tokens = torch.tensor([token for _, token in asked], device=hidden.device)
            found = torch.empty(len(asked), dtype=torch.float32, device=hidden.device)
            for start in range(0, len(number), self._positions):
                logits = self._logits(body, hidden[start : start + self._positions])
                here = ((numbers >= start) & (numbers < start + self._positions)).nonzero()[:, 0]
                at = numbers[here] - start
                found[here] = logits[at, tokens[here]] - torch.logsumexp(logits, dim=-1)[at]
                del logits  # frees them before the next ones are made
        values = iter(found.tolist())
        return [[next(values) for _ in reading.asked] for reading in batch]

    def _hidden(self, ids: Any, mask: Any, positions: list[tuple[int, int]]) -> tuple[Any, Any]:
        """Returns the body's output object, and its last hidden states at these (row, column), [positions, hidden]."""
        import torch

        device = self._model.get_input_embeddings().weight.device
        places = (mask.cumsum(dim=1) - 1).clamp(min=0)
        given = self._body(
            input_ids=ids.to(device), attention_mask=mask.to(device), position_ids=places.to(device), use_cache=False
        )
        rows, columns = torch.tensor(positions, device=device).T
        return given, given.last_hidden_state[rows, columns]

    def _logits(self, given: Any, hidden: Any) -> Any:
        """Returns the logits of hidden states, float32, [positions, vocabulary]."""
        given.last_hidden_state = hidden[None]
        with _answering(self._body, given):
            return self._model(inputs_embeds=hidden[None]).logits[0].float()


@contextmanager
def _answering(body: Any, given: Any) -> Iterator[None]:
    """Makes the body return `given` while the block runs, so that the model's code runs its head on that."""
    own = vars(body).get("forward")  # another library may have set one on the instance
    body.forward = lambda *arguments, **options: given
    try:
        yield
    finally:
        del body.forward
        if own is not None:
            body.forward = own
