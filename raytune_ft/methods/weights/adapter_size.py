"""Computes the size of an adapter's file before it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod

MIB = 2**20
FLOAT32_BYTES = 4


def safetensors_mib(shapes: Mapping[str, tuple[int, ...]]) -> float:
    """Returns the size in MiB of a safetensors file of float32 tensors with these names and shapes.

    The file consists of 8 bytes, a JSON header padded to 8 bytes, and the tensors.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in sorted(shapes.items()):  # in the order of safetensors
        end = at + FLOAT32_BYTES * prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, end]}
        at = end
    described = len(json.dumps(header, separators=(",", ":")).encode())
    return round((8 + -(-described // 8) * 8 + at) / MIB, 6)
