"""Cross entropy of the next token, only at positions with a target and in chunks, without [T, vocabulary] logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from raytune_ft.data.tokens.tokenize import IGNORED
from raytune_ft.objectives.sizes import LOGIT_CHUNK


def token_losses(
    hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, *, everywhere: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the cross entropy at the positions that have a target.

    Args:
        hidden: The last layer's output, [T, hidden].
        head: The frozen output embeddings, [vocabulary, hidden].
        targets: Target token ids, int64, [T]; negative where there is none.
        everywhere: Compute logits at all positions and discard most of them.

    Returns:
        The losses, float32, [positions], and the positions, int64, [positions].
    """
    positions = (targets >= 0).nonzero()[:, 0]
    if everywhere:
        losses: Any = torch.nn.functional.cross_entropy(
            (hidden @ head.T).float(), targets, ignore_index=IGNORED, reduction="none"
        )[positions]
    else:
        losses = _chunked(hidden[positions], head, targets[positions])
    return losses, positions


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Keeps only the gradient by `hidden` of each chunk for the backward pass, because the head is frozen."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        losses, slopes = [], []
        for start in range(0, len(hidden), LOGIT_CHUNK):
            piece, target = hidden[start : start + LOGIT_CHUNK], targets[start : start + LOGIT_CHUNK]
            logits = (piece @ head.T).float()
            log_norm = torch.logsumexp(logits, dim=-1)
            losses.append(log_norm - logits.gather(1, target[:, None])[:, 0])
            if ctx.needs_input_grad[0]:
                slope = logits.sub_(log_norm[:, None]).exp_()  # the softmax; one is subtracted at the target below
                slope.scatter_add_(1, target[:, None], torch.full_like(slope[:, :1], -1.0))
                slopes.append(slope.to(head.dtype) @ head)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(torch.cat(slopes) if slopes else torch.zeros_like(hidden))
        return torch.cat(losses) if losses else hidden.new_zeros(0, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        return (slopes * grads[0][:, None]).to(slopes.dtype), None, None


_chunked: Callable[..., torch.Tensor] = _ChunkedCrossEntropy.apply
