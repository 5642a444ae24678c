"""A finished run of a few bytes, and engines that answer what a test tells them."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from raytune_ft.evaluation.recorded import scores_to_json, write_scores
from raytune_ft.methods.weights.base_weights import base_sha256
from raytune_ft.methods.weights.tuned import tuned_sha256
from raytune_ft.objectives.scoring.scores import Scores
from raytune_ft.paths import RunDirectory, write_json
from raytune_ft.promotion import child
from raytune_ft.registry.store import Registry

MODULE = "model.layers.0.self_attn.q_proj"
ROWS = 400


def write_safetensors(path: Path, shapes: dict[str, tuple[int, ...]], fill: int = 1) -> None:
    header: dict[str, Any] = {}
    offset = 0
    for name, (rows, columns) in shapes.items():
        end = offset + 4 * rows * columns
        header[name] = {"dtype": "F32", "shape": [rows, columns], "data_offsets": [offset, end]}
        offset = end
    raw = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes([fill]) * offset)


@pytest.fixture
def base_model(tmp_path: Path) -> Path:
    directory = tmp_path / "models" / "base-model"
    write_safetensors(directory / "model.safetensors", {f"{MODULE}.weight": (6, 4)})
    (directory / "config.json").write_text("{}")
    return directory


@pytest.fixture
def write_adapter(tmp_path: Path, base_model: Path) -> Callable[..., Path]:
    """Writes the winner's adapter; keyword arguments replace keys of adapter_config.json."""

    def write(fill: int = 1, **changes: Any) -> Path:
        directory = tmp_path / "runs/movies/trials/0003/checkpoints/10"
        stem = f"base_model.model.{MODULE}"
        shapes = {f"{stem}.lora_A.weight": (2, 4), f"{stem}.lora_B.weight": (6, 2)}
        write_safetensors(directory / "adapter_model.safetensors", shapes, fill)
        config = {
            "peft_type": "LORA", "r": 2, "lora_alpha": 16, "target_modules": ["q_proj"], "bias": "none",
            "init_lora_weights": True, "base_model_name_or_path": str(base_model), **changes,
        }  # fmt: skip
        (directory / "adapter_config.json").write_text(json.dumps(config))
        return directory

    return write


def scores(right: int) -> Scores:
    """Of a model that is right on the first `right` rows."""
    choice = np.where(np.arange(ROWS) < right, 1, 0)
    return Scores(np.full(ROWS, 0.5), np.ones(ROWS, dtype=np.int64), choice, np.ones(ROWS, dtype=np.int64))


@pytest.fixture
def evaluate(tmp_path: Path, base_model: Path) -> Callable[..., None]:
    """Writes what `evaluate` leaves of the weights that lie there now; keyword arguments replace keys of it."""

    def write(right: int = 352, **changes: Any) -> None:
        run = RunDirectory(tmp_path / "runs" / "movies")
        digest = tuned_sha256(run.root / "trials/0003/checkpoints/10")
        values = {
            "schema": 1, "rows": ROWS, "dtype": "float32", "metrics": ["loss", "accuracy"],
            "winner": {
                "trial": "0003", "step": 10, "adapter_sha256": digest, "base_sha256": base_sha256(str(base_model)),
            },
            "systems": {"base": {"loss": 0.5, "accuracy": 0.8}, "winner": {"loss": 0.3, "accuracy": 0.88}},
            "difference": {
                "loss": {"mean": -0.2, "low": -0.3, "high": -0.1, "level": 0.95},
                "accuracy": {"mean": 0.08, "low": 0.05, "high": 0.11, "level": 0.95},
            },
            "retention": {"texts": 40, "tokens": 1500, "base": 20.0, "winner": 22.0, "ratio": 1.1},
        }  # fmt: skip
        write_json(run.evaluation, {**values, **changes})
        write_scores(run.scores, digest, scores(right))

    return write


@pytest.fixture
def run(
    tmp_path: Path, base_model: Path, write_adapter: Callable[..., Path], evaluate: Callable[..., None]
) -> RunDirectory:
    """A finished run whose winner gains 8 points of accuracy."""
    run = RunDirectory(tmp_path / "runs" / "movies")
    adapter = write_adapter()
    evaluate()
    experiment = {
        "name": "movies", "base_model": str(base_model), "data": {"train": "train.jsonl", "test": "test.jsonl"},
        "train": {"dtype": "float32"},
        "evaluate": {"metrics": ["loss", "accuracy"], "labels": [" bad", " good"]},
        "registry": {"path": str(tmp_path / "registry")},
    }  # fmt: skip
    run.experiment.write_text(yaml.safe_dump(experiment))
    write_json(
        run.winner,
        {
            "schema": 1, "experiment": "movies", "trial": "0003", "parameters": {"train.learning_rate": 1e-3},
            "metric": "eval_loss", "value": 0.3, "step": 10, "adapter": str(adapter.relative_to(run.root)),
            "base_model": str(base_model), "base_sha256": base_sha256(str(base_model)), "data_fingerprint": "f" * 64,
        },
    )  # fmt: skip
    write_json(
        run.data / "manifest.json",
        {
            "schema": 1, "fingerprint": "f" * 64, "form": "prompt_completion", "template_sha256": None,
            "splits": {"train": {"rows": 9000}, "test": {"rows": ROWS}}, "duplicates": {"train/test": 3},
        },
    )  # fmt: skip
    return run


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


class Engines:
    """Stands for both engines: they answer alike, but for `drift` nats; the champion is right on `right` rows."""

    def __init__(self) -> None:
        self.drift, self.right, self.tokens = 0.01, 352, [5, 6]
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(
        self, module: str, spec: dict[str, Any], timeout_s: float, say: Any, name: str, *_: str
    ) -> dict[str, Any]:
        self.asked.append((name, spec))
        if name == "writing the model":
            write_safetensors(Path(spec["target"]) / "model.safetensors", {f"{MODULE}.weight": (6, 4)}, fill=7)
            (Path(spec["target"]) / "config.json").write_text("{}")
            return {}
        if name == "vLLM":
            self.meanwhile()
            answer = {"question": [-3.0], "answer": [-0.1 - self.drift, -0.2], "tokens": self.tokens}
            answers = [answer] * len(spec["rows"])
            return {"answers": {"candidate": answers}}
        rows = [{"prompt": [1, 2], "answer": [5, 6], "asked": "ab", "length": 4}] * spec["rows"]
        answer = {"question": [-3.0], "answer": [-0.1, -0.2], "tokens": [5, 6], "margins": [4.0, 0.2]}
        answers = [answer] * spec["rows"]
        champion = scores_to_json(scores(self.right)) if spec["champion"] else None
        return {"champion": champion, "rows": rows, "answers": answers, "dtype": "float32"}

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.asked]


@pytest.fixture(autouse=True)
def engines(monkeypatch: pytest.MonkeyPatch) -> Engines:
    fake = Engines()
    monkeypatch.setattr(child, "run_child", fake)
    return fake
