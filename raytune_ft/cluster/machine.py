"""Facts about this machine that are read in under a second, without torch and ray."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sysconfig
from pathlib import Path

from raytune_ft.paths import nearest_directory
from raytune_ft.training.main_memory import main_memory

GIB = 1024**3


def usable_cores() -> int:
    """Returns the number of cores that this process may use; a container or job may have fewer than the machine."""
    return len(os.sched_getaffinity(0))


def memory_gib() -> tuple[float, float]:
    """Returns total and available memory in GiB, within the limit of the control group."""
    memory = main_memory()
    return memory.total / GIB, memory.free / GIB


def free_disk_gib(path: Path) -> float:
    """Returns the free space for this user in GiB on the disk where `path` is or will be."""
    return shutil.disk_usage(nearest_directory(path)).free / GIB


def gpus() -> list[str]:
    """Returns name and memory of each NVIDIA GPU, by nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=1.5, check=True)
    except (subprocess.SubprocessError, OSError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def port_is_taken(port: int) -> bool:
    """Tells whether a program listens on the loopback port."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def python_headers() -> Path | None:
    """Returns the directory of Python.h, which DeepSpeed's compiled op includes; None if it is missing."""
    directory = Path(sysconfig.get_path("include"))
    return directory if (directory / "Python.h").is_file() else None
