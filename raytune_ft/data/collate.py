"""Rows of unequal length as one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from raytune_ft.data.tokenize import IGNORED

if TYPE_CHECKING:
    import torch


def pad_batch(rows: Sequence[Mapping[str, Sequence[int]]], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Pads on the right.

    Args:
        rows: Each with `input_ids` and `labels`.
        pad_token_id: Fills `input_ids`; labels are filled with -100.

    Returns:
        `input_ids`, `labels` and `attention_mask`, int64 of shape (rows, longest row).
    """
    import torch

    shape = (len(rows), max(len(row["input_ids"]) for row in rows))
    input_ids = torch.full(shape, pad_token_id, dtype=torch.int64)
    labels = torch.full(shape, IGNORED, dtype=torch.int64)
    attention_mask = torch.zeros(shape, dtype=torch.int64)
    for index, row in enumerate(rows):
        length = len(row["input_ids"])
        input_ids[index, :length] = torch.as_tensor(row["input_ids"])
        labels[index, :length] = torch.as_tensor(row["labels"])
        attention_mask[index, :length] = 1
    return {"input_ids": input_ids, "labels": labels, "attention_mask": attention_mask}
