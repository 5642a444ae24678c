"""The real base through transformers and through vLLM: the honest copy passes, one with a scaled alpha is refused.

One start of each engine; the promotions are then given what they answered.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.config.load import load_experiment
from raytune_ft.paths import RunDirectory, read_json, write_json
from raytune_ft.promotion import child
from raytune_ft.promotion.gates import GateRefusedError
from raytune_ft.promotion.promote import promote
from raytune_ft.registry import staging
from raytune_ft.registry.manifest import verify
from raytune_ft.registry.store import Registry

ROWS = 8
CONFIG = "adapter_config.json"
Change = Callable[[dict[str, Any]], dict[str, Any]]


def scaled(config: dict[str, Any]) -> dict[str, Any]:
    """What goes wrong: the served adapter is twice as strong as the trained one."""
    return {**config, "lora_alpha": 2 * config["lora_alpha"]}


@pytest.fixture(scope="module")
def run(untrained_run: Callable[..., RunDirectory]) -> RunDirectory:
    return untrained_run("parity", f"promotion.parity.rows={ROWS}")


class AskedOnce:
    """The real engines, each started once: vLLM is asked with the honest copy and with the scaled one."""

    def __init__(self, twin: Path) -> None:
        self._run_child, self._twin = child.run_child, twin
        self._reference: dict[str, Any] = {}
        self._vllm: dict[str, Any] = {}

    def __call__(self, module: str, spec: dict[str, Any], *rest: Any) -> dict[str, Any]:
        if module.endswith("reference"):
            self._reference = self._reference or self._run_child(module, spec, *rest)
            return self._reference
        (directory,) = (Path(path) for path in spec["adapters"].values())
        alpha = read_json(directory / CONFIG)["lora_alpha"]
        if not self._vllm:
            honest = {path.name: path.read_bytes() for path in directory.iterdir()}
            self._twin.mkdir()
            for name, data in honest.items():
                (self._twin / name).write_bytes(data)
            write_json(self._twin / CONFIG, scaled(json.loads(honest[CONFIG])))
            both = {str(alpha): str(directory), str(2 * alpha): str(self._twin)}
            self._vllm = self._run_child(module, {**spec, "adapters": both}, *rest)["answers"]
        return {"answers": {name: self._vllm[str(alpha)] for name in spec["adapters"]}}


def test_an_honest_copy_passes_and_one_with_a_scaled_alpha_is_refused(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "run_child", AskedOnce(tmp_path / "twin"))
    registry = Registry(Path(load_experiment(run.experiment).registry.path))

    done = promote(run, registry, skip=["retention"], say=print)
    parity = verify(done.path).gates["parity"]
    print(parity)
    assert parity["passed"] and (parity["rows"], parity["greedy_differing"]) == (ROWS, 0)
    assert parity["rows_read_otherwise"] == 0
    assert 0 < parity["question_drift"] < 0.7 * parity["max_mean_drift"], "no room for honest rounding"

    before = sorted(path for path in registry.root.rglob("*"))
    real_write = staging.write_json

    def write_scaled(path: Path, value: Any) -> None:
        real_write(path, scaled(value) if path.name == CONFIG else value)

    monkeypatch.setattr(staging, "write_json", write_scaled)
    with pytest.raises(GateRefusedError, match="what would be served is not what was trained") as refused:
        promote(run, registry, skip=["retention", "no_worse"], force=True, say=print)
    print(refused.value.verdict)
    assert refused.value.verdict.numbers["question_drift"] > 3 * parity["question_drift"]
    assert sorted(path for path in registry.root.rglob("*")) == before
    assert registry.aliases("movie-sentiment") == {"champion": 1}
