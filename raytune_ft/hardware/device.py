"""Describes devices, and chooses number types that they are fast in; pure functions, testable for any machine."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from raytune_ft.config.number_type import NumberType, holds

BFLOAT16_FROM = (8, 0)
"""CUDA compute capability of Ampere, the first with tensor cores for bfloat16; older GPUs emulate it."""
FLOAT16_FROM = (7, 0)
"""CUDA compute capability of Volta, the first with tensor cores for float16."""
FAST_FLOAT16_BEFORE = ((6, 0),)
"""Older GPUs with fast float16: P100 has it at twice the rate of float32, other Pascals at a sixty-fourth."""
PREFERRED: tuple[NumberType, ...] = ("bfloat16", "float16", "float32")
"""Number types in order of preference; bfloat16 has the range of float32 and needs no loss scaling."""


@dataclass(frozen=True)
class Device:
    """A CPU, or a GPU.

    Attributes:
        name: The maker's name of it.
        capability: A GPU's CUDA compute capability; None for a CPU.
        gflops: A CPU's measured speed of matrix products in GFLOP/s, by number type.
    """

    name: str
    capability: tuple[int, int] | None = None
    gflops: Mapping[NumberType, float] = field(default_factory=dict)


def fast_types(device: Device) -> tuple[NumberType, ...]:
    """Returns the types that the device multiplies at least as fast as float32, the preferred first, float32 last."""
    if device.capability is not None:
        if device.capability >= BFLOAT16_FROM:
            return PREFERRED
        if device.capability >= FLOAT16_FROM or device.capability in FAST_FLOAT16_BEFORE:
            return ("float16", "float32")
        return ("float32",)
    least = device.gflops["float32"]
    return tuple(each for each in PREFERRED if device.gflops.get(each, 0.0) >= least)


def common_type(devices: Collection[Device], *, float16: bool = True) -> NumberType:
    """Returns the preferred type among those that all devices are fast in."""
    return holding_type(devices, (), float16=float16)


def holding_type(devices: Collection[Device], held: Collection[NumberType], *, float16: bool = True) -> NumberType:
    """Returns the preferred type that all devices are fast in and that represents every number of the types in `held`.

    What was trained in one type is evaluated and served in the result, so that nothing is rounded away. Without a
    suitable type the result is float32.

    Args:
        devices: Devices that have to be fast in it.
        held: Types whose numbers it has to represent.
        float16: Whether float16 may be chosen.
    """
    fast = [fast_types(device) for device in devices]
    may = [each for each in PREFERRED if float16 or each != "float16"]
    fitting = (each for each in may if all(holds(each, other) for other in held))
    return next(each for each in fitting if all(each in types for types in fast))
