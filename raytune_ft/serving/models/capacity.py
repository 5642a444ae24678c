"""Decides how many adapter versions an engine holds: as many as the registry needs and memory allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raytune_ft.errors import IntegrityError
from raytune_ft.methods.weights.peft_files import ADAPTER_WEIGHTS
from raytune_ft.registry.manifest import Manifest
from raytune_ft.serving.models.registry_view import RegistryView
from raytune_ft.serving.settings import ServeArgs

VLLM_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # vLLM 0.29, config/lora.py: MaxLoRARanks
_LEAST_RANK = 32  # the least max_lora_rank where no setting says it; most searches stay below
_BATCH = range(4, 9)  # slots are allocated whether they are used or not, and each slows every step a little
_SPARE = 4  # for versions that are promoted while the endpoint runs
_MOST_LOADED = 64
_SLOT_BYTES = 4 << 30  # most of the engine's memory for all slots together
_LOADED_BYTES = 8 << 30  # most of the machine's memory for all loaded versions together


@dataclass(frozen=True)
class Capacity:
    """How many adapter versions the engine holds at once; the least recently used one is evicted first."""

    per_batch: int = _BATCH[0]
    """vLLM's max_loras: adapter versions that one engine step can compute (its slots)."""
    loaded: int = _MOST_LOADED
    """Adapter versions that are kept in the machine's memory, ready for a slot."""


def capacity_for(args: ServeArgs, view: RegistryView, served: Sequence[Manifest], rank: int) -> Capacity:
    """Returns the capacity that the registry's versions need now, bounded by memory.

    Args:
        args: The endpoint's arguments; `max_adapters` and `max_loaded_adapters` override the result.
        view: The endpoint's registry.
        served: Manifests of the versions that it serves.
        rank: Highest rank that it serves, which sets the size of each slot.
    """
    pointed = 0
    for adapter in {found.adapter for found in served}:
        try:
            pointed += len(set(view.aliases(adapter).values()))
        except IntegrityError:
            continue  # logged where it was read; the versions can still be asked by number
    sizes = [(_weights_bytes(view, found), found.lora_rank) for found in served]
    slot = max((size * rank // own for size, own in sizes), default=0)
    largest = max((size for size, _ in sizes), default=0)
    per_batch = args.max_adapters or _bounded(min(max(pointed, _BATCH[0]), _BATCH[-1]), _SLOT_BYTES, slot)
    loaded = args.max_loaded_adapters or _bounded(min(len(served) + _SPARE, _MOST_LOADED), _LOADED_BYTES, largest)
    return Capacity(per_batch, max(loaded, per_batch))


def served_rank(rank: int) -> int:
    """Returns the smallest max_lora_rank that vLLM accepts and that covers `rank`."""
    return next(step for step in VLLM_LORA_RANKS if step >= rank)


def rank_with_room(greatest: int, bytes_per_rank: int) -> int:
    """Returns the default max_lora_rank, which leaves room for later versions of higher rank.

    It is twice the highest rank of today and at least 32, or less where four slots of that size would not fit into
    the memory for slots.

    Args:
        greatest: Highest rank of the present versions.
        bytes_per_rank: Bytes that a slot takes for each rank; 0 if unknown.
    """
    needed = served_rank(greatest)
    wanted = served_rank(min(max(2 * greatest, _LEAST_RANK), VLLM_LORA_RANKS[-1]))
    fitting = (step for step in VLLM_LORA_RANKS if step * _BATCH[0] * bytes_per_rank <= _SLOT_BYTES)
    return max((step for step in fitting if needed <= step <= wanted), default=needed)


def bytes_per_rank(view: RegistryView, served: Sequence[Manifest]) -> int:
    """Returns the bytes that the largest version's weights take for each rank; 0 if there is no version."""
    return max((_weights_bytes(view, found) // found.lora_rank for found in served), default=0)


def _bounded(wanted: int, memory: int, each: int) -> int:
    return max(1, min(wanted, memory // each)) if each else wanted


def _weights_bytes(view: RegistryView, found: Manifest) -> int:
    path = view.registry.path(found.adapter, found.version) / ADAPTER_WEIGHTS
    return path.stat().st_size if path.is_file() else 0
