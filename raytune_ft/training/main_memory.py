"""Reads the main memory of this process, which is the machine's or its control group's limit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MainMemory:
    """The memory that the processes of this control group may have.

    Attributes:
        total: Bytes in total.
        free: Bytes that are free.
    """

    total: int
    free: int


def main_memory(groups: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> MainMemory:
    """Returns the memory within the limits of this process's control groups.

    Containers and Slurm jobs see the whole machine's memory, but are killed at their group's limit.

    Args:
        groups: Mount point of the control groups (version 2).
        own: The file that names the control group of this process.
    """
    import psutil

    machine = psutil.virtual_memory()
    totals, left = [float(machine.total)], [float(machine.available)]
    try:
        name = next(line[3:] for line in own.read_text().splitlines() if line.startswith("0::"))
        group = groups / name.lstrip("/")
        for each in (group, *group.parents):
            if each.is_relative_to(groups) and (limit := _limit(each)) is not None:
                totals.append(limit)
                left.append(limit - _held(each))
    except (OSError, StopIteration):
        pass
    return MainMemory(int(min(totals)), max(0, int(min(left))))


def _limit(group: Path) -> int | None:
    try:
        return int((group / "memory.max").read_text())
    except (OSError, ValueError):  # `max`, or there is no such group
        return None


def _held(group: Path) -> int:
    """Returns the bytes in use without file cache that the kernel could drop; 0 if unknown."""
    try:
        used = int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return used - int(stat.get("inactive_file", 0))
    except (OSError, ValueError):
        return 0
