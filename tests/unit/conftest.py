"""What unit tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one test a core: libraries that start a thread a core would only wait
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def benchmarks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their modules lie in no package."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
