"""Tests that need one GPU: `make test-gpu`, at most ten minutes on any machine with one."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import torch

    if not torch.cuda.is_available():
        for item in items:
            item.add_marker(pytest.mark.skip(reason="no GPU here; run make test-gpu where there is one"))
