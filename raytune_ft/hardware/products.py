"""Measures how fast this machine's CPU multiplies matrices, because a type that it accepts may be emulated."""

from __future__ import annotations

import time
from collections.abc import Collection

from raytune_ft.config.number_type import NumberType

ROWS, INPUTS, OUTPUTS = 256, 576, 1536
"""Sizes of the product that is measured, as in a layer of a small model; 0.45 GFLOP."""
ROUNDS = 8
LONGEST_S = 0.5
"""Seconds after which two rounds are enough."""
LEAST_S = 0.02
"""Seconds for which each type is measured at least; a fast machine takes more than `ROUNDS` rounds for it."""


def measured_products(types: Collection[NumberType], threads: int) -> dict[NumberType, float]:
    """Returns the speed of a linear layer in each type, in GFLOP/s on `threads` threads, as the best of several rounds.

    The types take turns, so that the load of other programs affects all alike. It takes 0.1 s, or 0.5 s if a type is
    slow.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            factors = {
                each: (
                    torch.randn(ROWS, INPUTS).to(getattr(torch, each)),
                    torch.randn(OUTPUTS, INPUTS).to(getattr(torch, each)),
                )
                for each in types
            }
            for x, weight in factors.values():  # the first product compiles the kernel and is not measured
                torch.nn.functional.linear(x, weight)
            fastest_s = dict.fromkeys(types, float("inf"))
            spent_s = dict.fromkeys(types, 0.0)
            rounds = 0
            while rounds < 2 or (
                sum(spent_s.values()) < LONGEST_S and (rounds < ROUNDS or min(spent_s.values()) < LEAST_S)
            ):
                for each, (x, weight) in factors.items():
                    began = time.perf_counter()
                    torch.nn.functional.linear(x, weight)
                    took = time.perf_counter() - began
                    fastest_s[each] = min(fastest_s[each], took)
                    spent_s[each] += took
                rounds += 1
    finally:
        torch.set_num_threads(before)
    return {each: 2e-9 * ROWS * INPUTS * OUTPUTS / seconds for each, seconds in fastest_s.items()}
