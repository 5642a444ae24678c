"""Computes the rows that a step trains on, as a pure function of the step; a paused trial needs no data position."""

from __future__ import annotations

from dataclasses import dataclass, field

from raytune_ft.config.experiment import Experiment


@dataclass
class DataOrder:
    """The order of rows of transformers' Trainer with accelerate's seedable sampler.

    Attributes:
        rows: Number of rows of the split.
        seed: Each epoch is a random permutation with seed `seed` + epoch.
        batch: Number of rows of one worker's forward pass.
        accumulate: Number of forward passes of an optimizer step.
        workers: Number of workers that share a step; worker r takes every `workers`-th batch, beginning with the r-th.
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
        """Returns the indices of the rows of optimizer step `step` (from 0), as worker -> forward pass -> rows."""
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
        """Returns the rows of a batch; after the epoch's end, rows from its start fill up each worker's batches."""
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
