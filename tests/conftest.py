"""What tests share: a tiny Llama and a toy task made on the spot, a Ray head, a guard against what is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import secrets
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
DECIMAL = re.compile(r"(\d+\.\d+)")
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


@pytest.fixture(autouse=True)
def models_can_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after a command that leaves them to its workers, and runs in this process for once."""
    monkeypatch.setattr("raytune_ft.lean_imports.run_no_model", lambda: None)


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
            "train": {"learning_rate": 1e-2, "per_device_train_batch_size": 8, "max_steps": 4, "dtype": "float32"},
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


@pytest.fixture
def toy_preferences(toy_experiment: ToyExperiment, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Writes the toy's rows as preferences, each answer preferred to the other one, and returns a `data` section.

    `most` says how many rows a split has at most.
    """

    def write(most: int | None = None) -> dict[str, Any]:
        toy_experiment()
        data: dict[str, Any] = {"max_length": 64, "format": "preference"}
        other = {" yes": " no", " no": " yes"}
        for split in ("train", "validation", "test"):
            rows = [json.loads(line) for line in (tmp_path / f"data/{split}.jsonl").read_text().splitlines()][:most]
            pairs = [
                {"prompt": row["prompt"], "chosen": row["completion"], "rejected": other[row["completion"]]}
                for row in rows
            ]
            data[split] = str(write_jsonl(tmp_path / f"data/{split}-pairs.jsonl", pairs))
        return data

    return write


@pytest.fixture(scope="session")
def free_ports() -> Callable[[int], list[int]]:
    """Finds so many ports of loopback that nobody listens on."""

    def find(count: int) -> list[int]:
        with contextlib.ExitStack() as open_together:
            probes = [open_together.enter_context(socket.socket()) for _ in range(count)]
            for probe in probes:
                probe.bind(("127.0.0.1", 0))
            return [probe.getsockname()[1] for probe in probes]

    return find


@dataclass(frozen=True)
class Head:
    """A Ray head with 2 CPUs on loopback that answers only to its token."""

    address: str
    """Of its dashboard."""
    gcs: str
    token_path: Path
    environment: dict[str, str]
    """Its own, and so one with the token."""
    port: int
    """Free, for what is served there."""


@pytest.fixture(scope="module")
def head_environment() -> dict[str, str]:
    """What a file's head has in its environment besides; files that need some have a fixture of this name."""
    return {}


@pytest.fixture(scope="module")
def head(
    tmp_path_factory: pytest.TempPathFactory, head_environment: dict[str, str], free_ports: Callable[[int], list[int]]
) -> Iterator[Head]:
    home, ray = tmp_path_factory.mktemp("home"), Path(sys.executable).with_name("ray")
    token_path, log = home / ".ray" / "auth_token", home / "head.log"
    token_path.parent.mkdir()
    token_path.write_text(secrets.token_hex(32))
    token_path.chmod(0o600)
    environment = {
        **os.environ, "HOME": str(home), "PATH": f"{ray.parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_path), **head_environment,
    }  # fmt: skip
    gcs, dashboard, agent, port = free_ports(4)
    command = [str(ray), "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1"]
    command += [f"--port={gcs}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    command += [f"--dashboard-agent-listen-port={agent}", "--object-store-memory=200000000"]
    with log.open("w") as writer:
        process = subprocess.Popen(command, env=environment, stdout=writer, stderr=writer)
    try:
        deadline = time.monotonic() + 300
        while not _listens(dashboard):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield Head(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{gcs}", token_path, environment, port)
    finally:
        _end(process)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _end(head: subprocess.Popen[bytes]) -> None:
    """Ends this head alone, where `ray stop` would end every Ray of this user."""
    from raytune_ft.execution.local_ray.alive import wait_for_end

    processes = [psutil.Process(head.pid)]
    processes += processes[0].children(recursive=True)
    for process in reversed(processes):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    left = wait_for_end(set(processes), 2.0)  # a worker that waits for its head would take a minute
    for process in left:
        process.kill()
    head.wait(10)


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
    if not {"integration", "e2e", "system", "gpu"} & set(request.path.parts):
        yield
        return
    before = _ray_processes()
    yield
    deadline = time.monotonic() + 100
    while (left := _ray_processes() - before) and time.monotonic() < deadline:
        time.sleep(0.2)
    shown = [" ".join(process.info["cmdline"] or [process.info["name"]])[:80] for process in left]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    assert not shown, f"{request.path.name} left processes behind: {shown}"


@pytest.fixture(scope="session")
def golden() -> Callable[..., None]:
    """`golden(name, found, hidden)` fails where JSON values differ from `golden/<name>.json`.

    `hidden` says what to read instead of texts that differ from run to run. `GOLDEN=write` in the environment writes
    the file anew, after a change that is meant to change what it holds.
    """

    def check(name: str, found: Any, hidden: dict[str, str] | None = None) -> None:
        text = json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False)
        for shown, instead in (hidden or {}).items():
            text = text.replace(shown, instead)
        path = Path(__file__).parent / "golden" / f"{name}.json"
        if os.environ.get("GOLDEN") == "write":
            path.write_text(text + "\n", encoding="utf-8")
        difference = _difference(json.loads(text), json.loads(path.read_text(encoding="utf-8")), "$")
        assert difference is None, f"{path}: {difference}"

    return check


def _parts(text: str) -> list[str | float]:
    """Words and the decimals among them."""
    return [float(each) if DECIMAL.fullmatch(each) else each for each in DECIMAL.split(text)]


def _difference(found: Any, wanted: Any, place: str) -> str | None:
    """Where two JSON values part, in words; floats that CPUs sum in another order are the same."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        if found.keys() != wanted.keys():
            return f"{place}: only one of both has {sorted(found.keys() ^ wanted.keys())}"
        parts = [(found[key], wanted[key], f"{place}.{key}") for key in sorted(wanted)]
    elif isinstance(found, list) and isinstance(wanted, list):
        if len(found) != len(wanted):
            return f"{place}: {len(found)} entries, {len(wanted)} before"
        parts = [(found[index], wanted[index], f"{place}[{index}]") for index in range(len(wanted))]
    elif isinstance(found, str) and isinstance(wanted, str):
        if found == wanted or not DECIMAL.search(found):
            return None if found == wanted else f"{place}: {found!r}, {wanted!r} before"
        parts = [(_parts(found), _parts(wanted), place)]
    elif isinstance(found, float) and isinstance(wanted, int | float):
        same = found == pytest.approx(wanted, rel=2e-3, abs=1e-6)
        return None if same else f"{place}: {found}, {wanted} before"
    else:
        return None if found == wanted else f"{place}: {found!r}, {wanted!r} before"
    return next(filter(None, (_difference(*part) for part in parts)), None)
