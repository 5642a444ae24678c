"""Preloads the modules of Ray Serve that an endpoint's processes need; the fork server imports it."""

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
