"""Imported for what it imports: what an endpoint's processes need, but for Ray, and what Ray imports."""

from __future__ import annotations

from importlib import import_module

for name in ("vllm.engine.arg_utils", "vllm.entrypoints.openai.api_server"):
    import_module(name)
