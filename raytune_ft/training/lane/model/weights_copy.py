"""Keeps a copy of the base's weights on disk in the lanes' dtype, which the processes of a node map into memory."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from raytune_ft.methods.weights.base_weights import weight_files
from raytune_ft.paths import rename_into_place

if TYPE_CHECKING:
    import torch

LOCK_S = 600.0
"""Seconds that one process waits for another to write the copy."""
ROOM = 1.5
"""Free disk space that is required, as a multiple of the copy's size; with less, each process keeps its own weights."""


def weights_in(directory: Path, dtype: torch.dtype, *, may_copy: bool) -> Path | None:
    """Returns a directory whose safetensors files hold the floating-point weights of `directory` as `dtype`.

    It is `directory` itself if most of its bytes have that dtype, else a copy in the user's cache, which the first
    process writes. A process that maps the copy compares it with the weights it has loaded, so it need not be trusted.

    Returns:
        The directory; None if `directory` holds no safetensors files. If there is no copy and none may or can be made,
        it is `directory` too, and weights of another dtype are then not shared.
    """
    from safetensors import SafetensorError

    files = weight_files(directory) if any(directory.glob("*.safetensors")) else []
    if not files:
        return None
    try:
        own, size = _bytes(files, dtype)
        return directory if own >= size / 2 else _copy(directory, files, dtype, size, may_copy=may_copy)
    except (OSError, RuntimeError, SafetensorError):  # sharing only saves memory, so this fails no trial
        return directory


def _bytes(files: list[Path], dtype: torch.dtype) -> tuple[int, int]:
    """Returns the bytes of the floating-point weights as `dtype`: of those stored in that dtype, and of all."""
    import torch
    from safetensors import safe_open

    own, size = 0, 0
    for file in files:
        with safe_open(str(file), framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a mapping
                part = tensors.get_slice(name)
                if part.get_dtype() in _HEADER.values():
                    count = dtype.itemsize * torch.Size(part.get_shape()).numel()
                    size += count
                    own += count if part.get_dtype() == _HEADER[str(dtype)] else 0
    return own, size


def _copy(directory: Path, files: list[Path], dtype: torch.dtype, size: int, *, may_copy: bool) -> Path:
    from safetensors import safe_open
    from safetensors.torch import save_file

    target = _cache() / f"{_identity(files)}-{str(dtype).removeprefix('torch.')}"
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with FileLock(target.with_suffix(".lock"), timeout=LOCK_S):
        if target.is_dir():
            return target
        if not may_copy or shutil.disk_usage(target.parent).free < ROOM * size:
            return directory
        aside = target.with_name(f".{target.name}.making")
        shutil.rmtree(aside, ignore_errors=True)  # left by a killed process; the lock is ours
        aside.mkdir(mode=0o700)
        try:
            for file in files:
                with safe_open(str(file), framework="pt") as tensors:
                    found = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
                cast = {name: each.to(dtype) if each.is_floating_point() else each for name, each in found.items()}
                save_file(cast, aside / file.name)
                with (aside / file.name).open("rb") as written:
                    os.fsync(written.fileno())
            rename_into_place(aside, target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return target


def forget(copy: Path) -> None:
    """Removes a damaged copy, so that the next lane makes another; does nothing to a directory outside the cache."""
    if copy.parent == _cache():
        shutil.rmtree(copy, ignore_errors=True)


_HEADER = {"torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16"}
"""PyTorch's name of a dtype -> its name in safetensors headers."""


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "raytune-ft" / "weights"


def _identity(files: list[Path]) -> str:
    """Returns a name that identifies these files in their present state."""
    facts = [(str(each.resolve()), each.stat().st_size, each.stat().st_mtime_ns) for each in files]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
