"""How many adapter versions an engine holds: as many as the registry needs and the memory takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raytune_ft.errors import IntegrityError
from raytune_ft.registry.adapter import WEIGHTS_NAME
from raytune_ft.registry.manifest import Manifest
from raytune_ft.serving.models.registry_view import RegistryView
from raytune_ft.serving.settings import ServeArgs

VLLM_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # vLLM 0.29, config/lora.py: MaxLoRARanks
_LEAST_RANK = 32  # of an endpoint that is told none: most searches stay below
_BATCH = range(4, 9)  # slots are allocated whether they are used or not, and each slows every step a little
_SPARE = 4  # versions that are promoted while the endpoint runs
_MOST_LOADED = 64
_SLOT_BYTES = 4 << 30  # of the engine's memory, for all slots
_LOADED_BYTES = 8 << 30  # of the machine's memory, for all that is loaded


@dataclass(frozen=True)
class Capacity:
    """Adapter versions that the engine holds at once; beyond it the least used one goes."""

    per_batch: int = _BATCH[0]
    """vLLM's max_loras: versions that one step of the engine can answer for."""
    loaded: int = _MOST_LOADED
    """Versions that are kept in the machine's memory, ready for a slot."""


def capacity_for(args: ServeArgs, view: RegistryView, served: Sequence[Manifest], rank: int) -> Capacity:
    """What the registry's versions need now, bounded by memory; `max_adapters` and `max_loaded_adapters` override.

    Args:
        args: The endpoint's arguments.
        view: Its registry.
        served: Manifests of the versions that it serves.
        rank: Greatest rank that it serves; a slot is as large as that.
    """
    pointed = 0
    for adapter in {found.adapter for found in served}:
        try:
            pointed += len(set(view.aliases(adapter).values()))
        except IntegrityError:
            continue  # logged where it was read; its versions are served by number
    sizes = [(_weights_bytes(view, found), found.lora_rank) for found in served]
    slot = max((size * rank // own for size, own in sizes), default=0)
    largest = max((size for size, _ in sizes), default=0)
    per_batch = args.max_adapters or _bounded(min(max(pointed, _BATCH[0]), _BATCH[-1]), _SLOT_BYTES, slot)
    loaded = args.max_loaded_adapters or _bounded(min(len(served) + _SPARE, _MOST_LOADED), _LOADED_BYTES, largest)
    return Capacity(per_batch, max(loaded, per_batch))


def served_rank(rank: int) -> int:
    """The smallest of vLLM's steps that covers `rank`."""
    return next(step for step in VLLM_LORA_RANKS if step >= rank)


def rank_with_room(greatest: int, bytes_per_rank: int) -> int:
    """The greatest rank that an endpoint serves where no setting says it: one step of vLLM's with room for the next.

    Twice the greatest of today, and 32 at least; less where four slots would not fit into the memory for them.

    Args:
        greatest: Rank of the versions that are there.
        bytes_per_rank: What one rank of a slot takes; 0 where no version says it.
    """
    needed = served_rank(greatest)
    wanted = served_rank(min(max(2 * greatest, _LEAST_RANK), VLLM_LORA_RANKS[-1]))
    fitting = (step for step in VLLM_LORA_RANKS if step * _BATCH[0] * bytes_per_rank <= _SLOT_BYTES)
    return max((step for step in fitting if needed <= step <= wanted), default=needed)


def bytes_per_rank(view: RegistryView, served: Sequence[Manifest]) -> int:
    """What one rank of the largest version takes."""
    return max((_weights_bytes(view, found) // found.lora_rank for found in served), default=0)


def _bounded(wanted: int, memory: int, each: int) -> int:
    return max(1, min(wanted, memory // each)) if each else wanted


def _weights_bytes(view: RegistryView, found: Manifest) -> int:
    path = view.registry.path(found.adapter, found.version) / WEIGHTS_NAME
    return path.stat().st_size if path.is_file() else 0
