"""A base model directory without a model: config, tokenizer, chat template and an empty weights file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.config.experiment import Experiment

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    directory = tmp_path_factory.mktemp("models") / "tokenizer-only"
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    bpe.train_from_iterator(["assistant user system good bad answer question"] * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(directory)
    (directory / "config.json").write_text('{"model_type": "llama"}')
    (directory / "model.safetensors").write_bytes(b"")
    return directory


@pytest.fixture
def write_rows(tmp_path: Path) -> Callable[..., Path]:
    """Writes `rows` (objects, or whole lines) to a JSONL file under `tmp_path`."""

    def write(name: str, rows: list[Any]) -> Path:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path = tmp_path / name
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return path

    return write


@pytest.fixture
def experiment(base_model: Path) -> Callable[..., Experiment]:
    """An experiment on the tokenizer-only model; `data` and other top-level keys as keyword arguments."""

    def make(data: dict[str, Any], **others: Any) -> Experiment:
        values = {
            "name": "test",
            "base_model": str(base_model),
            "train": {"per_device_train_batch_size": 2},
            "data": {key: str(value) if isinstance(value, Path) else value for key, value in data.items()},
        }
        return Experiment.model_validate({**values, **others})

    return make
