"""Preloads the modules that an endpoint's processes need, except Ray and what imports Ray.

The fork server imports it, so that the processes which it forks need not import vLLM again.
"""

from __future__ import annotations

from importlib import import_module

for name in ("vllm.engine.arg_utils", "vllm.entrypoints.openai.api_server"):
    import_module(name)
