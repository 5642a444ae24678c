"""What unit tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one test a core: libraries that start a thread a core would only wait
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def benchmarks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their modules lie in no package."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture(scope="session")
def settings_of_space() -> Callable[[Path], tuple[str, ...]]:
    """Returns the `--set` settings of the objective that a shipped space is for: `<method>_<objective>[_<size>]`."""
    from raytune_ft.config.data import DataFormat
    from raytune_ft.config.objectives.choice import DEFAULT, OBJECTIVES

    def settings(path: Path) -> tuple[str, ...]:
        _, _, rest = path.stem.partition("_")
        named = [name for name in OBJECTIVES if rest == name or rest.startswith(f"{name}_")]
        if not named or named[0] == DEFAULT:
            return ()
        objective = max(named, key=len)
        form = next(each for each in DataFormat if each.rows == OBJECTIVES[objective].rows)
        return f"objective.type={objective}", f"data.format={form}"

    return settings
