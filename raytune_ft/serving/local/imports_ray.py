"""Imported for what it imports: what an endpoint's processes need of Ray Serve."""

from __future__ import annotations

from importlib import import_module

for name in (
    "ray.serve._private.controller",
    "ray.serve._private.proxy",
    "ray.serve._private.replica",
    "raytune_ft.serving.engine.ray_llm",
    "ray.llm._internal.serve.engines.vllm.vllm_engine",
):
    import_module(name)
