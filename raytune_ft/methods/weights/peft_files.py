"""What PEFT calls an adapter's files."""

from __future__ import annotations

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
