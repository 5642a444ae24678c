"""Which rows a step trains on: a pure function of the step, so a paused trial needs to keep no cursor."""

from __future__ import annotations

from dataclasses import dataclass, field

from raytune_ft.config.experiment import Experiment


@dataclass
class DataOrder:
    """The order in which transformers' Trainer with accelerate's seedable sampler takes the rows of an epoch.

    Attributes:
        rows: Rows of the split.
        seed: Each epoch is a permutation drawn from `seed` + epoch.
        batch: Rows of one worker's forward pass.
        accumulate: Forward passes per optimizer step.
        workers: Workers that share a step; worker r takes every `workers`-th batch, from the r-th on.
    """

    rows: int
    seed: int
    batch: int
    accumulate: int = 1
    workers: int = 1
    _epoch: tuple[int, list[int]] | None = field(default=None, repr=False)

    @staticmethod
    def of(experiment: Experiment, rows: int, workers: int) -> DataOrder:
        train = experiment.train
        return DataOrder(
            rows, experiment.seed, train.per_device_train_batch_size, train.gradient_accumulation_steps, workers
        )

    def step(self, step: int) -> list[list[list[int]]]:
        """EncodedRow numbers of optimizer step `step` (from 0): worker -> forward pass -> rows."""
        batches = -(-self.rows // self.batch)
        rounds = -(-batches // self.workers)  # forward passes of a worker in an epoch
        steps = -(-rounds // self.accumulate)
        epoch, at = divmod(step, steps)
        order = self._permutation(epoch)
        first, last = at * self.accumulate, min((at + 1) * self.accumulate, rounds)
        return [
            [self._batch(order, each * self.workers + worker) for each in range(first, last)]
            for worker in range(self.workers)
        ]

    def _batch(self, order: list[int], index: int) -> list[int]:
        """Past the end of the epoch, rows from its beginning fill up, so that every worker has as many."""
        first = index * self.batch
        found = order[first : first + self.batch]
        if self.workers > 1 and len(found) < self.batch:
            found = [order[(first + i) % len(order)] for i in range(self.batch)]
        return found

    def _permutation(self, epoch: int) -> list[int]:
        import torch

        if self._epoch is None or self._epoch[0] != epoch:
            generator = torch.Generator().manual_seed(self.seed + epoch)
            self._epoch = (epoch, torch.randperm(self.rows, generator=generator).tolist())
        return self._epoch[1]
