"""A device that models run on, and the types of number that it is fast in. Pure, so that any machine can be tested."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from raytune_ft.config.number_type import NumberType, holds

BFLOAT16_FROM = (8, 0)
"""CUDA compute capability (Ampere): tensor cores for bfloat16, which older ones emulate."""
FLOAT16_FROM = (7, 0)
"""Volta: tensor cores for float16."""
FAST_FLOAT16_BEFORE = ((6, 0),)
"""P100: float16 at twice the rate; the other Pascals have it at a sixty-fourth."""
PREFERRED: tuple[NumberType, ...] = ("bfloat16", "float16", "float32")
"""Of types that a device is fast in: bfloat16 first, as it has the range of float32 and needs no loss scaling."""


@dataclass(frozen=True)
class Device:
    """A CPU, or a GPU.

    Attributes:
        name: As its maker calls it.
        capability: A GPU's CUDA compute capability; None for a CPU.
        gflops: A CPU's products by type, measured.
    """

    name: str
    capability: tuple[int, int] | None = None
    gflops: Mapping[NumberType, float] = field(default_factory=dict)


def fast_types(device: Device) -> tuple[NumberType, ...]:
    """The types that the device multiplies at least as fast as float32, the preferred first; float32 is the last."""
    if device.capability is not None:
        if device.capability >= BFLOAT16_FROM:
            return PREFERRED
        if device.capability >= FLOAT16_FROM or device.capability in FAST_FLOAT16_BEFORE:
            return ("float16", "float32")
        return ("float32",)
    least = device.gflops["float32"]
    return tuple(each for each in PREFERRED if device.gflops.get(each, 0.0) >= least)


def common_type(devices: Collection[Device], *, float16: bool = True) -> NumberType:
    """The preferred type of those that all devices are fast in."""
    return holding_type(devices, (), float16=float16)


def holding_type(devices: Collection[Device], held: Collection[NumberType], *, float16: bool = True) -> NumberType:
    """The preferred type that all devices are fast in and that holds every number of the types in `held`, else float32.

    Args:
        devices: Which have to be fast in it.
        held: Types that it has to hold.
        float16: Whether that may be taken.

    What was trained in one type is evaluated and served in this one: nothing of it is rounded away.
    """
    fast = [fast_types(device) for device in devices]
    may = [each for each in PREFERRED if float16 or each != "float16"]
    fitting = (each for each in may if all(holds(each, other) for other in held))
    return next(each for each in fitting if all(each in types for types in fast))
