"""AdamW over an adapter's single vector, replicated on every rank or sharded as in ZeRO.

In ZeRO (Rajbhandari et al. 2020, arXiv 1910.02054), stage 1 shards the optimizer's state, and stage 2 the summed
gradient too. With one vector that is a reduce-scatter, a step on the shard, and an all-gather.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.training import DeepSpeed, Train
from raytune_ft.training.lane.model.adapter import Adapter
from raytune_ft.training.lane.ranks import Ranks

EPSILON = 1e-6  # as in torch's gradient clipping


@dataclass(frozen=True)
class Stepped:
    """The gradient norm and learning rate of a step.

    Attributes:
        norm: Norm of the summed gradient before clipping; if it is not finite, the step was skipped.
        learning_rate: Learning rate of the step.
    """

    norm: float
    learning_rate: float


class AdapterOptimizer:
    """Sums the gradient over the ranks, clips it, and updates the adapter.

    Args:
        adapter: The adapter to train.
        experiment: Gives learning rate, schedule, clipping, weight decay and strategy.
        ranks: The lane's ranks.
    """

    def __init__(self, adapter: Adapter, experiment: Experiment, ranks: Ranks) -> None:
        strategy = experiment.resources.strategy
        self._stage = strategy.zero_stage if isinstance(strategy, DeepSpeed) else 0
        self._adapter, self._ranks, self._train = adapter, ranks, experiment.train
        self._share = torch.nn.Parameter(self._own(adapter.weights).clone())
        self._adamw = torch.optim.AdamW(
            [self._share],
            lr=torch.tensor(experiment.train.learning_rate, device=self._share.device),
            weight_decay=experiment.train.weight_decay,
            fused=True,
        )
        # The state is allocated now, so that memory runs out at a trial's start and not within the ranks' first step.
        self._adamw.state[self._share] = {
            "exp_avg": torch.zeros_like(self._share),
            "exp_avg_sq": torch.zeros_like(self._share),
            "step": torch.zeros((), device=self._share.device),
        }
        self._rate = schedule(experiment.train)

    def step(self, step: int, scale: float = 1.0) -> Stepped:
        """Takes optimizer step `step` (from 0) with the gradient `adapter.grad` / `scale`, then zeroes the gradient."""
        if scale != 1.0:
            self._adapter.grad.mul_(1.0 / scale)
        rate = self._train.learning_rate * self._rate(step)
        gradient, norm = self._summed()
        if norm == norm and norm != float("inf"):
            gradient.mul_(min(1.0, self._train.max_grad_norm / (norm + EPSILON)))
            self._share.grad = gradient
            self._adamw.param_groups[0]["lr"].fill_(rate)
            self._adamw.step()
            self._share.grad = None
            self._spread()
        self._adapter.grad.zero_()
        return Stepped(norm, rate)

    def state(self) -> dict[str, torch.Tensor]:
        """Returns first and second moment of the whole vector, float32, [n], and the steps taken; equal on every rank.

        The tensors are in main memory; a GPU's are copied one by one, so that it never holds three full vectors. On a
        CPU they are the optimizer's own tensors, so they have to be written before the next step.
        """
        state = self._adamw.state[self._share]
        return {name: self._gathered(state[name]) for name in ("exp_avg", "exp_avg_sq")} | {"step": state["step"].cpu()}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Restores a `state()` that was saved with any number of ranks, and takes the adapter's present weights."""
        self._share.data.copy_(self._own(self._adapter.weights))
        if state:
            moments = {
                name: self._own(state[name].to(self._share.device)).clone() for name in ("exp_avg", "exp_avg_sq")
            }
            self._adamw.state[self._share] = {**moments, "step": state["step"].to(self._share.device)}

    def _summed(self) -> tuple[torch.Tensor, float]:
        """Returns the summed gradient for the optimizer (this rank's shard, if sharded), and the norm of the whole."""
        gradient: Any = self._adapter.grad
        if self._stage == 2 and self._ranks.size > 1:
            gradient = self._ranks.scatter_sum(gradient)
            square = self._ranks.sum(gradient.square().sum(dtype=torch.float64))
            return gradient, float(square.sqrt())
        self._ranks.sum(gradient)
        return self._own(gradient), float(torch.linalg.vector_norm(gradient))

    def _own(self, whole: torch.Tensor) -> torch.Tensor:
        if not self._stage or self._ranks.size == 1:
            return whole
        share = whole.numel() // self._ranks.size
        return whole[self._ranks.rank * share : (self._ranks.rank + 1) * share]

    def _gathered(self, share: torch.Tensor) -> torch.Tensor:
        if share.numel() == self._adapter.weights.numel():
            return share.detach().cpu()
        whole = torch.empty_like(self._adapter.weights)
        self._ranks.gather(share, whole)
        return whole.cpu()

    def _spread(self) -> None:
        if self._share.numel() == self._adapter.weights.numel():
            self._adapter.weights.copy_(self._share.data)
        else:
            self._ranks.gather(self._share.data, self._adapter.weights)
        self._adapter.refresh()


def schedule(train: Train) -> Any:
    """Returns transformers' learning rate schedule: step (from 0) -> factor of the learning rate."""
    from transformers import get_scheduler

    extra: dict[str, Any] = {}
    if train.lr_scheduler_type == "warmup_stable_decay":
        extra["scheduler_specific_kwargs"] = {"num_decay_steps": decay_steps(train)}
    idle = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    made = get_scheduler(
        train.lr_scheduler_type,
        idle,
        num_warmup_steps=train.warmup_steps,
        num_training_steps=train.max_steps,
        **extra,
    )
    return made.lr_lambdas[0]


def decay_steps(train: Train) -> int:
    """Returns the decay steps of a warmup-stable-decay schedule, which are the last fifth of all."""
    return max(1, train.max_steps // 5)
