"""The notebook runs from its first cell to its last."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "quickstart.ipynb"


def test_the_notebook_runs_and_prints_what_it_promises(
    toy_experiment: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = {"learning_rate": 1e-2, "per_device_train_batch_size": 8, "max_steps": 4, "dtype": "float32"}
    monkeypatch.setenv("EXPERIMENT", str(toy_experiment(train=train)))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = [
        "".join(output.get("text", "") for output in cell.get("outputs", []) if output.get("name") == "stdout")
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
    assert "unknown key; did you mean learning_rate?" in printed[1]
    assert printed[2].startswith("1 000")
    assert printed[3].startswith("loss: -")
    assert "notebook" in printed[4] or "toy" in printed[4] or "refused" in printed[4]
