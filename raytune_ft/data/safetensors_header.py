"""Reads names and shapes of the tensors in a safetensors file from its header, without reading the weights."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytune_ft.errors import IntegrityError

_MAX_HEADER_BYTES = 100_000_000  # the format's own limit


@dataclass(frozen=True)
class TensorInfo:
    """One tensor's type and shape."""

    dtype: str
    shape: tuple[int, ...]


def weights_in(tensors: Mapping[str, TensorInfo]) -> int:
    """Returns the number of all tensors' elements."""
    return sum(math.prod(info.shape) for info in tensors.values())


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Reads the header and checks that the file has the size that the header implies.

    Raises:
        IntegrityError: The file is truncated or not safetensors.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
            raise IntegrityError(f"{path}: is not a whole safetensors file; make the checkpoint again")
        raw = stream.read(length)
    try:
        header: dict[str, Any] = json.loads(raw)
        header.pop("__metadata__", None)
        tensors = {name: TensorInfo(info["dtype"], tuple(info["shape"])) for name, info in header.items()}
        end = max((int(info["data_offsets"][1]) for info in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{path}: its safetensors header is broken; make the checkpoint again") from error
    if size != 8 + length + end:
        raise IntegrityError(f"{path}: holds {size} bytes, its header promises {8 + length + end}; it is truncated")
    return tensors


def read_headers(paths: Iterable[Path]) -> dict[str, TensorInfo]:
    """Returns the tensors of all files; raises IntegrityError as `read_header`."""
    return {name: info for path in paths for name, info in read_header(path).items()}
