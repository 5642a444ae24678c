"""Main memory of this process: the machine's, or less where its control group has a limit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MainMemory:
    """What this process and its like may have.

    Attributes:
        total: Bytes.
        free: Bytes that are left to take.
    """

    total: int
    free: int


def main_memory(groups: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> MainMemory:
    """Containers and Slurm's jobs are told the whole machine's memory, and killed at their group's limit.

    Args:
        groups: Where control groups (version 2) are mounted.
        own: The file that names this process's.
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
    """Bytes in use, but for files that the kernel could let go; 0 where it does not say."""
    try:
        used = int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return used - int(stat.get("inactive_file", 0))
    except (OSError, ValueError):
        return 0
