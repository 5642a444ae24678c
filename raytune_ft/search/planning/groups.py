"""Worker groups that train at the same time, and how many trials a lane of theirs packs: both by what really fits."""

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
    """Groups that this machine holds; None where they run elsewhere, or want GPUs and none is here.

    Args:
        resources: What each group takes.
        gpus: That are here.
    """
    if os.environ.get("RAY_ADDRESS") or (resources.gpus_per_worker and not gpus):
        return None
    return groups_on([{"CPU": float(os.cpu_count() or 1), "GPU": float(gpus)}], resources)


def groups_at_once(runner: Lane | Isolated, at_once: int, fitting: int | None) -> int:
    """Groups that train at the same time: as many as trials, or as lanes that there is room for.

    Args:
        runner: Who trains; isolated trials that don't all fit are refused when the sweep starts.
        at_once: Trials.
        fitting: Groups that the nodes hold; None where nobody knows, and the study is taken at its word.
    """
    if isinstance(runner, Lane) and runner.lanes:
        return min(runner.lanes, at_once)
    if isinstance(runner, Isolated) or fitting is None:
        return at_once
    return max(1, min(at_once, fitting))


def workers_on_one(resources: Resources, groups: int) -> int:
    """Workers that share one GPU's memory, or this machine's; those of a cluster are taken to be on a node each.

    Args:
        resources: What each group takes.
        groups: That train at the same time.
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
        count: That train at the same time.
        room_mib: Memory of the device, or of the machine, that a worker is on; None where nobody knows.
        on_it: Workers that share it.
        on_gpu: Whether that is a GPU's.
        token_s: Expected seconds of a group's token where so many trials are packed, or None.
    """

    count: int
    room_mib: float | None = None
    on_it: int = 1
    on_gpu: bool = False
    token_s: Callable[[int], float | None] = _unknown

    def packed(self, packs: Packs, held_mib: Callable[[int], float]) -> Packs:
        """The packs that memory holds.

        Args:
            packs: That a lane would like.
            held_mib: By a worker, with so many trials in a pass.
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
    """Trials that a lane trains in one pass.

    Attributes:
        first: Before it has measured anything.
        most: Where each doubling turns out faster.
        doubles: Whether it doubles at all; a number in `runner.packed` stays.
    """

    first: int
    most: int
    doubles: bool = True

    def in_memory(self, holds: Callable[[int], bool], holds_twice: Callable[[int], bool]) -> Packs:
        """As the lane's `PackSize` does it: a pack that finds no memory is halved, one with too little left stays.

        Args:
            holds: Whether there is memory for a pack of that many.
            holds_twice: Whether such a pack leaves as much as the lane wants to see before it doubles.
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
        """Where doubling ends to be faster.

        Args:
            token_s: Expected seconds of a token in a pack of that many; None where nothing is expected.
        """
        packed, now = self.first, token_s(self.first)
        while now and packed * 2 <= self.most and (then := token_s(packed * 2)) and now >= GAIN * then:
            packed, now = packed * 2, then
        return packed


def packs_of(experiment: Experiment, runner: Lane | Isolated, rows: RowLengths, groups: int) -> Packs:
    """Trials that a lane packs at first and at most, as long as memory holds them.

    Args:
        experiment: The study's.
        runner: Who trains.
        rows: How long the training rows are.
        groups: Worker groups that share the trials.
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
