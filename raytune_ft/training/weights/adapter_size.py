"""How large an adapter's file is, before it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod

MIB = 2**20
FLOAT32_BYTES = 4


def safetensors_mib(shapes: Mapping[str, tuple[int, ...]]) -> float:
    """MiB of a safetensors file of float32 tensors by these names.

    The file is 8 bytes, a JSON header padded to 8 bytes, and the tensors one after the other.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in sorted(shapes.items()):  # as safetensors does
        end = at + FLOAT32_BYTES * prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, end]}
        at = end
    described = len(json.dumps(header, separators=(",", ":")).encode())
    return round((8 + -(-described // 8) * 8 + at) / MIB, 6)
