"""A training function of one's own: a small network learns y = sin(x), in plain PyTorch.

It has nothing to do with language models; `raytune-ft sweep experiments/custom/regression.yaml` searches its settings.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch


def train(
    settings: Mapping[str, Any], data: Mapping[str, Any], report: Callable[..., None], checkpoint: str | None
) -> None:
    """Trains to `settings["max_steps"]`, and reports at each of `settings["report_steps"]`.

    Args:
        settings: `objective.settings`, with `seed`, `max_steps` and `report_steps`.
        data: Paths of the `data` section: `train`, `validation`, `test`; here there are none.
        report: `report(step, {metric: value}, checkpoint=directory)`; the search may end the trial there.
        checkpoint: The directory that was reported last, if the trial goes on after a restart; else None.
    """
    torch.manual_seed(settings["seed"])
    x = torch.linspace(-3, 3, 256)[:, None]
    y = torch.sin(x)
    hidden = settings["hidden"]
    model = torch.nn.Sequential(torch.nn.Linear(1, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=settings["learning_rate"])
    done = 0
    if checkpoint is not None:
        saved = torch.load(Path(checkpoint) / "state.pt", weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        done = saved["step"]
    for step in range(done + 1, settings["max_steps"] + 1):
        loss = torch.nn.functional.mse_loss(model(x[::2]), y[::2])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in settings["report_steps"]:
            with torch.no_grad():
                rmse = torch.nn.functional.mse_loss(model(x[1::2]), y[1::2]).sqrt()
            with tempfile.TemporaryDirectory() as directory:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
                torch.save(state, Path(directory) / "state.pt")
                report(step, {"rmse": float(rmse)}, checkpoint=directory)
