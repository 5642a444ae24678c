"""Main memory that this process may still take: the machine's, or less where its control group has a limit."""

from __future__ import annotations

from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def free_memory_bytes(groups: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """Containers and Slurm's jobs are told the whole machine's memory, and killed at their group's limit.

    Args:
        groups: Where control groups (version 2) are mounted.
        own: The file that names this process's.
    """
    import psutil

    free = int(psutil.virtual_memory().available)
    try:
        name = next(line[3:] for line in own.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return free
    group = groups / name.lstrip("/")
    limits = [_left(each) for each in (group, *group.parents) if each.is_relative_to(groups)]
    return max(0, int(min([free, *limits])))


def _left(group: Path) -> float:
    """Bytes up to the limit, files that the kernel could let go included."""
    try:
        limit, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return int(limit) - used + int(stat.get("inactive_file", 0))
    except (OSError, ValueError):  # it has no limit, or there is no such group
        return float("inf")
