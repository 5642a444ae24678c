"""An adapter on its way into the registry."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from raytune_ft.errors import IntegrityError
from raytune_ft.registry.staging import STAGING, staged
from raytune_ft.registry.store import Registry


def left(registry: Registry) -> list[str]:
    return sorted(path.name for path in (registry.root / STAGING).iterdir() if path.name != ".lock")


def test_two_copies_at_once_leave_each_other_alone(
    registry: Registry, base_model: Path, write_adapter: Callable[..., Path]
) -> None:
    with staged(registry, "movies", write_adapter(), str(base_model)) as first:
        with staged(registry, "movies", write_adapter(fill=9), str(base_model)) as second:
            assert first.path != second.path and first.files != second.files
            assert (first.path / "adapter_model.safetensors").is_file()
        assert not second.path.exists()
        first.check_unchanged()
    assert left(registry) == [] and registry.versions("movies") == [1, 2, 3]


def test_what_a_killed_process_was_copying_is_removed_by_the_next(
    registry: Registry, base_model: Path, write_adapter: Callable[..., Path]
) -> None:
    source = write_adapter()
    code = (
        "import os, signal; from pathlib import Path;"
        "from raytune_ft.registry.staging import staged; from raytune_ft.registry.store import Registry\n"
        f"with staged(Registry(Path({str(registry.root)!r})), 'movies', Path({str(source)!r}), {str(base_model)!r}):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=os.getcwd(), check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(left(registry)) == 2  # the copy and its lock
    assert registry.adapters() == ["movies"] and registry.versions("movies") == [1, 2, 3]
    with staged(registry, "movies", source, str(base_model)) as copy:
        assert left(registry) == [copy.path.name, f"{copy.path.name}.lock"]
    assert left(registry) == []


def test_a_staging_room_that_leads_elsewhere_is_refused(
    registry: Registry, base_model: Path, write_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    room = registry.root / STAGING
    for entry in room.iterdir():
        entry.unlink()
    room.rmdir()
    (tmp_path / "elsewhere").mkdir()
    room.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match="is a link"), staged(registry, "movies", write_adapter(), str(base_model)):
        pass
    assert not any((tmp_path / "elsewhere").iterdir())
