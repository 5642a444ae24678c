"""What tests share: a tiny Llama and a toy task made on the spot, and a guard against processes left behind."""

from __future__ import annotations

import contextlib
import json
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_NO_USAGE_STATS": "1",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "NO_COLOR": "1",
}
MARK = "RAYTUNE_FT_TESTS"
"""Inherited by all that the tests start, and so tells it from what else runs."""
os.environ[MARK] = uuid.uuid4().hex
os.environ.update(OFFLINE)  # before any test module imports a library that reads it
for _elsewhere in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "WANDB_API_KEY"):
    os.environ.pop(_elsewhere, None)

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PLACES = ["bridge", "harbour", "library", "market", "museum", "orchard", "quarry", "station", "temple", "valley"]
SIGHTS = ["empty", "crowded", "bright", "foggy", "quiet", "windy", "frozen", "muddy", "steep", "narrow"]
ToyExperiment = Callable[..., Path]


def toy_rows(count: int, seed: int) -> list[dict[str, str]]:
    """Different rows that a few dozen steps can learn: the answer is " yes" where the prompt says `sunny`."""
    draw = random.Random(seed)
    rows: dict[str, dict[str, str]] = {}
    while len(rows) < count:
        sunny = draw.random() < 0.5
        words = [*draw.sample(SIGHTS, 2), "sunny" if sunny else "rainy"]
        draw.shuffle(words)
        prompt = f"Note: the {draw.choice(PLACES)} is {words[0]}, {words[1]} and {words[2]}.\nSwim:"
        rows[prompt] = {"prompt": prompt, "completion": " yes" if sunny else " no"}
    return list(rows.values())


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a random 2-layer Llama, a byte-level BPE tokenizer and a chat template; under 1 MB.

    The head size is 32, the smallest that vLLM's CPU attention takes.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    directory = tmp_path_factory.mktemp("models") / "tiny-llama"
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    corpus = [row["prompt"] + row["completion"] for row in toy_rows(500, seed=7)]
    corpus += [f"{role}\n" for role in ("system", "user", "assistant")] * 50
    bpe.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=512, special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", bos_token="<|im_start|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.model_max_length = 256
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.2,  # with the default, such a small model's logits hardly depend on its input
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture
def toy_experiment(tiny_llama: Path, tmp_path: Path) -> ToyExperiment:
    """Writes `<tmp_path>/toy.yaml` and its data, and returns the file.

    Keyword arguments replace top-level keys, e.g. `toy_experiment(resources={"workers": 2})`; `None` removes one.
    Everything is written under `tmp_path`: runs to `runs/`, adapters to `registry/`.
    """

    def write(**changes: Any) -> Path:
        rows = toy_rows(224, seed=1)
        values: dict[str, Any] = {
            "name": "toy",
            "base_model": str(tiny_llama),
            "data": {
                "train": str(write_jsonl(tmp_path / "data/train.jsonl", rows[:160])),
                "validation": str(write_jsonl(tmp_path / "data/validation.jsonl", rows[160:192])),
                "test": str(write_jsonl(tmp_path / "data/test.jsonl", rows[192:])),
                "max_length": 64,
            },
            "method": {"type": "lora", "r": 8, "alpha": 16},
            "train": {"learning_rate": 1e-2, "per_device_train_batch_size": 8, "max_steps": 4, "bf16": False},
            "resources": {"workers": 1},
            "search": {
                "space": {"parameters": {"train.learning_rate": {"loguniform": [1e-3, 2e-2]}}},
                "scheduler": {"type": "asha", "grace_period": 2, "reduction_factor": 2},
                "trials": 2,
            },
            "evaluate": {"metrics": ["loss", "accuracy"], "labels": [" yes", " no"]},
            "tracking": {"tensorboard": False},
            "registry": {"path": str(tmp_path / "registry")},
            "output_dir": str(tmp_path / "runs"),
            **changes,
        }
        path = tmp_path / "toy.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in values.items() if value is not None}))
        return path

    return write


def _ray_processes() -> set[psutil.Process]:
    """Ray daemons, Ray workers and vLLM engines that these tests started; another Ray of this user is none of ours."""
    found = set()
    for process in psutil.process_iter(["name", "cmdline", "uids"]):
        title = " ".join(process.info["cmdline"] or [])
        daemon = process.info["name"] in ("raylet", "gcs_server") or title.startswith(("ray::", "VLLM::"))
        if daemon and process.info["uids"] and process.info["uids"].real == os.getuid() and _is_ours(process):
            found.add(process)
    return found


def _is_ours(process: psutil.Process) -> bool:
    try:
        return process.environ().get(MARK) == os.environ[MARK]
    except psutil.Error:  # it has just ended
        return False


@pytest.fixture(scope="module", autouse=True)
def nothing_stays_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails, and cleans up, when an integration or end-to-end test file leaves a Ray or vLLM process."""
    if not {"integration", "e2e"} & set(request.path.parts):
        yield
        return
    before = _ray_processes()
    yield
    deadline = time.monotonic() + 20
    while (left := _ray_processes() - before) and time.monotonic() < deadline:
        time.sleep(0.2)
    shown = [" ".join(process.info["cmdline"] or [process.info["name"]])[:80] for process in left]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    assert not shown, f"{request.path.name} left processes behind: {shown}"
