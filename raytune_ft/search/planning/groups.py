"""Works out how many worker groups fit and train at once, and how many trials a lane packs into one pass."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.training import Isolated, Lane, Resources
from raytune_ft.execution.cluster import groups_on
from raytune_ft.search.planning.bounds import bounds
from raytune_ft.search.planning.row_lengths import RowLengths
from raytune_ft.training.lane.packing.pack_size import GAIN, MOST, SMALL, may_double


def fitting_here(resources: Resources, gpus: int) -> int | None:
    """Returns how many groups this machine holds; None if they run elsewhere, or want GPUs and none is here.

    Args:
        resources: The resources of each group.
        gpus: How many GPUs this machine has.
    """
    if os.environ.get("RAY_ADDRESS") or (resources.gpus_per_worker and not gpus):
        return None
    return groups_on([{"CPU": float(os.cpu_count() or 1), "GPU": float(gpus)}], resources)


def groups_at_once(runner: Lane | Isolated, at_once: int, fitting: int | None) -> int:
    """Returns how many groups train at the same time: as many as trials, or as lanes that fit.

    Args:
        runner: The runner; isolated trials that don't all fit are refused when the sweep starts.
        at_once: How many trials train at once.
        fitting: How many groups the nodes hold; None where that is unknown, and as many as trials are assumed to fit.
    """
    if isinstance(runner, Lane) and runner.lanes:
        return min(runner.lanes, at_once)
    if isinstance(runner, Isolated) or fitting is None:
        return at_once
    return max(1, min(at_once, fitting))


def workers_on_one(resources: Resources, groups: int) -> int:
    """Returns how many workers share one GPU's or this machine's memory; in a cluster, each is assumed on its own node.

    Args:
        resources: The resources of each group.
        groups: How many groups train at the same time.
    """
    if resources.gpus_per_worker:
        return max(1, int(1 / resources.gpus_per_worker))
    return 1 if os.environ.get("RAY_ADDRESS") else groups * resources.workers


def _unknown(packed: int) -> float | None:
    return None


@dataclass(frozen=True)
class Groups:
    """Worker groups that share a study's trials.

    Attributes:
        count: How many train at the same time.
        room_mib: Memory of the GPU or machine that a worker is on, MiB; None where it is unknown.
        on_it: How many workers share that memory.
        on_gpu: Whether it is a GPU's.
        token_s: Returns the expected seconds per token of a group that packs a given number of trials, or None.
    """

    count: int
    room_mib: float | None = None
    on_it: int = 1
    on_gpu: bool = False
    token_s: Callable[[int], float | None] = _unknown

    def packed(self, packs: Packs, held_mib: Callable[[int], float]) -> Packs:
        """Returns the packs that fit into memory.

        Args:
            packs: The packs that a lane would use with enough memory.
            held_mib: Returns the MiB that a worker holds with a given number of trials in a pass.
        """
        if self.room_mib is None:
            return packs
        room = self.room_mib

        def left(packed: int) -> float:
            return room - self.on_it * held_mib(packed)

        return packs.in_memory(
            lambda packed: left(packed) >= 0,
            lambda packed: may_double(left(packed), held_mib(packed), on_gpu=self.on_gpu),
        )


@dataclass(frozen=True)
class Packs:
    """How many trials a lane trains in one pass.

    Attributes:
        first: The number before the lane has measured anything.
        most: The number if each doubling turns out faster.
        doubles: Whether the lane tries to double it; a number set in `runner.packed` stays.
    """

    first: int
    most: int
    doubles: bool = True

    def in_memory(self, holds: Callable[[int], bool], holds_twice: Callable[[int], bool]) -> Packs:
        """Returns the packs that fit, as the lane's `PackSize` finds them.

        A pack that runs out of memory is halved; one that leaves too little memory is not doubled.

        Args:
            holds: Returns whether there is memory for a pack of a given size.
            holds_twice: Returns whether a pack of a given size leaves the memory that the lane requires to double it.
        """
        first = self.first
        while first > 1 and not holds(first):
            first //= 2
        if first < self.first or not self.doubles:
            return Packs(first, first, doubles=False)
        most = first
        while most * 2 <= self.most and holds_twice(most) and holds(most * 2):
            most *= 2
        return Packs(first, most)

    def likely(self, token_s: Callable[[int], float | None]) -> int:
        """Returns the size after which another doubling is no longer faster.

        Args:
            token_s: Returns the expected seconds per token in a pack of a given size; None where that is unknown.
        """
        packed, now = self.first, token_s(self.first)
        while now and packed * 2 <= self.most and (then := token_s(packed * 2)) and now >= GAIN * then:
            packed, now = packed * 2, then
        return packed


def packs_of(experiment: Experiment, runner: Lane | Isolated, rows: RowLengths, groups: int) -> Packs:
    """Returns how many trials a lane packs at first and at most, if memory holds them.

    Args:
        experiment: The study's experiment.
        runner: The runner.
        rows: How long the training rows are.
        groups: How many worker groups share the trials.
    """
    search = experiment.search
    at_once = min(search.max_concurrent, search.trials) if search else 1
    share = min(MOST, -(-at_once // groups))
    if isinstance(runner, Isolated):
        return Packs(1, 1, doubles=False)
    if isinstance(runner.packed, int):
        return Packs(min(runner.packed, share), min(runner.packed, share), doubles=False)
    tokens = rows.mean * bounds(experiment, "train.per_device_train_batch_size").least
    first = 1
    while first * 2 <= share and first * tokens < SMALL:
        first *= 2
    return Packs(first, max(first, 1 << (share.bit_length() - 1)))
