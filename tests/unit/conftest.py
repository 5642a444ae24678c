"""What unit tests share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def benchmarks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their modules lie in no package."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
