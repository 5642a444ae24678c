"""Imports what lanes' workers need, but for Ray, and what Ray itself imports; it does nothing else."""

from __future__ import annotations

from importlib import import_module

from raytune_ft.lean_imports import import_transformers
from raytune_ft.training.lane.model.families import MODEL_TYPES

OTHERS = ("pandas", "peft", "pyarrow", "torch._dynamo", "transformers.modeling_utils", "transformers.optimization")

import_transformers()
for name in (*OTHERS, *(f"transformers.models.{each}.modeling_{each}" for each in MODEL_TYPES)):
    import_module(name)
import_module("raytune_ft.training.lane.loop")
