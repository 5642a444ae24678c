"""How fast this machine's CPU multiplies matrices, measured: a type that is accepted may still be emulated."""

from __future__ import annotations

import time
from collections.abc import Collection

from raytune_ft.config.number_type import NumberType

ROWS, INPUTS, OUTPUTS = 256, 576, 1536
"""A product of a small model's layer; 0.45 GFLOP."""
ROUNDS = 8
LONGEST_S = 0.5
"""After so long, two rounds must do."""
LEAST_S = 0.02
"""A fast machine multiplies more often than `ROUNDS` times, until a type was measured for so long."""


def measured_products(types: Collection[NumberType], threads: int) -> dict[NumberType, float]:
    """Products of a linear layer in each type, in GFLOP/s on `threads` threads: the best of several rounds.

    The types take turns, so that another program's load meets them alike. Takes 0.1 s, or 0.5 s where a type is slow.
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
            for x, weight in factors.values():  # kernels are made once
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
