"""Measures the peak memory of a worker's process."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_memory_mib(device: str) -> float:
    """Returns the peak memory since the process began, in MiB.

    On a GPU it is that of PyTorch's allocator, else the resident set, including mapped files.

    Args:
        device: The model's device, `cpu` or `cuda`.
    """
    if device != "cpu":
        import torch

        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    if _STATUS.is_file():  # ru_maxrss would include the parent's memory at the fork
        lines = _STATUS.read_text(encoding="ascii").splitlines()
        peak = next((line for line in lines if line.startswith("VmHWM:")), None)
        if peak is not None:
            return round(int(peak.split()[1]) / 1024, 1)
    per_mib = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / per_mib, 1)
