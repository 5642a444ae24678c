"""What a process may have where its control group has a limit."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from raytune_ft.training.main_memory import MainMemory, main_memory

MIB = 2**20


@pytest.fixture
def groups(tmp_path: Path):
    """`groups(name, limit, used, files)`: writes a control group's files below the mount, and returns that."""

    def write(name: str, limit: str, used: int, files: int = 0) -> Path:
        group = tmp_path / "cgroup" / name
        group.mkdir(parents=True, exist_ok=True)
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text(f"{used}\n")
        (group / "memory.stat").write_text(f"anon {used - files}\ninactive_file {files}\n")
        return tmp_path / "cgroup"

    return write


def memory(groups: Path, name: str = "/job/step") -> MainMemory:
    own = groups.parent / "own"
    own.write_text(f"0::{name}\n")
    return main_memory(groups, own)


def test_fault_11_the_limit_of_the_group_counts_and_not_the_machines_memory(groups) -> None:
    limit = 100 * MIB
    assert memory(groups("job/step", str(limit), 60 * MIB)) == MainMemory(limit, 40 * MIB)
    assert memory(groups("job/step", str(limit), 60 * MIB, files=15 * MIB)) == MainMemory(limit, 55 * MIB)
    assert memory(groups("job/step", str(limit), 120 * MIB)) == MainMemory(limit, 0)


def test_a_limit_above_it_counts_too(groups) -> None:
    groups("job/step", "max", 60 * MIB)
    assert memory(groups("job", str(90 * MIB), 80 * MIB)) == MainMemory(90 * MIB, 10 * MIB)


def test_without_a_limit_it_is_the_machines(groups, tmp_path: Path) -> None:
    machine = psutil.virtual_memory()
    for found in (memory(groups("job/step", "max", 60 * MIB)), main_memory(tmp_path, tmp_path / "no file")):
        assert found.total == machine.total and found.free == pytest.approx(machine.available, rel=0.2)
