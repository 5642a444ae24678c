"""Concatenates the rows of a micro-batch, trial by trial, to one sequence, and indexes them for attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from raytune_ft.data.tokens.tokenize import IGNORED

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    EncodedRow = tuple[NDArray[np.int32], NDArray[np.int32]]

WIDTH_STEP = 16  # widths of attention's groups are multiples of it, so that there are few different shapes
NARROWER = 0.6  # a row of at most this fraction of its group's width begins a new group


@dataclass(frozen=True)
class AttentionGroup:
    """Rows of similar length, which attention computes as a rectangle.

    Attributes:
        index: Position of each cell's token in the sequence, int64, [rows * width]; cells after a row's end may have
            any, because they are not read.
        rows: Number of rows of the rectangle.
        width: Number of cells of a row.
    """

    index: torch.Tensor
    rows: int
    width: int


@dataclass(frozen=True)
class Layout:
    """A sequence of T tokens from several rows.

    Attributes:
        input_ids: Token ids, int64, [T].
        positions: Position of each token in its row, int64, [T].
        targets: The next token if it has a loss, else -100, int64, [T].
        groups: The rows as rectangles, for attention.
        back: Index of each of the first `used` tokens in the concatenated cells of all groups, int64, [used].
        segments: [start, end) of each trial's tokens, in the order of the trials.
        tokens: Number of tokens of rows, without padding.
        used: Number of tokens of rows with their padding; T may be greater, because it is rounded up.
    """

    input_ids: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    groups: tuple[AttentionGroup, ...]
    back: torch.Tensor
    segments: tuple[tuple[int, int], ...]
    tokens: int
    used: int


def lay_out(
    trials: Sequence[Sequence[EncodedRow]], *, round_to: int = 1, padding_free: bool = True, device: str = "cpu"
) -> Layout:
    """Concatenates the rows of all trials.

    Args:
        trials: For each trial its rows, as pairs of `input_ids` and `labels`.
        round_to: T is rounded up to a multiple of it.
        padding_free: Whether each row takes its own length; otherwise all rows of a trial are padded to its longest.
        device: Device of the tensors.
    """
    import numpy as np
    import torch

    rows = [row for trial in trials for row in trial]
    lengths = [len(ids) for ids, _ in rows]
    slots = lengths if padding_free else [max(len(ids) for ids, _ in trial) for trial in trials for _ in trial]
    starts = np.cumsum([0, *slots])
    total = -(-int(starts[-1]) // round_to) * round_to
    input_ids, positions = np.zeros(total, np.int64), np.zeros(total, np.int64)
    targets, back = np.full(total, IGNORED, np.int64), np.zeros(int(starts[-1]), np.int64)
    for (ids, labels), start, length in zip(rows, starts, lengths, strict=False):
        input_ids[start : start + length] = ids
        positions[start : start + length] = np.arange(length)
        targets[start : start + length - 1] = labels[1:]
    groups, cells = [], 0
    for members in _similar(slots):
        width = _rounded(max(slots[i] for i in members))
        index = np.zeros((len(members), width), np.int64)
        for line, i in enumerate(members):
            index[line, : slots[i]] = starts[i] + np.arange(slots[i])
            back[starts[i] : starts[i] + slots[i]] = cells + line * width + np.arange(slots[i])
        cells += index.size
        groups.append(AttentionGroup(torch.from_numpy(index.reshape(-1)).to(device), len(members), width))
    bounds = np.cumsum([0, *(len(trial) for trial in trials)])
    return Layout(
        input_ids=torch.from_numpy(input_ids).to(device),
        positions=torch.from_numpy(positions).to(device),
        targets=torch.from_numpy(targets).to(device),
        groups=tuple(groups),
        back=torch.from_numpy(back).to(device),
        segments=tuple((int(starts[a]), int(starts[b])) for a, b in pairwise(bounds)),
        tokens=sum(lengths),
        used=int(starts[-1]),
    )


def _similar(lengths: list[int]) -> list[list[int]]:
    """Groups the indices of rows by similar length, the longest first."""
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups and _rounded(lengths[i]) > NARROWER * _rounded(lengths[groups[-1][0]]):
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _rounded(length: int) -> int:
    return -(-length // WIDTH_STEP) * WIDTH_STEP
