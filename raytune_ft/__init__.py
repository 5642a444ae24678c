"""Search, prove and serve fine-tuned language models on Ray.

The Python API is what the command line itself calls:

    experiment = raytune_ft.load_experiment("experiment.yaml", ["train.max_steps=20"])
    result = raytune_ft.run_sweep(experiment)
    comparison = raytune_ft.evaluate(result.run)
    promotion = raytune_ft.promote(result.run)
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from raytune_ft.errors import InputError, RaytuneError

if TYPE_CHECKING:
    from raytune_ft.api import evaluate, load_experiment, promote, run_sweep

# transformers and PEFT import it, and on a CPU it warns that kernels of a hub are missing, which nothing here needs.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

__version__ = "0.1.0"
_API = ("evaluate", "load_experiment", "promote", "run_sweep")
__all__ = ["InputError", "RaytuneError", "evaluate", "load_experiment", "promote", "run_sweep"]


def __getattr__(name: str) -> Any:
    """Loads the API on first use, so that the command answers at once."""
    if name in _API:
        from raytune_ft import api

        return getattr(api, name)
    raise AttributeError(f"module 'raytune_ft' has no attribute {name!r}")
