"""What transformers and vLLM make of the same rows, compared; and the copy that vLLM is given."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.config.promotion import ParityGate
from raytune_ft.errors import IntegrityError, RaytuneError
from raytune_ft.paths import RunDirectory, sha256_file
from raytune_ft.promotion.gates import GateRefusedError, Verdict
from raytune_ft.promotion.parity import Answer, judge_parity
from raytune_ft.promotion.promote import promote
from raytune_ft.registry.manifest import verify
from raytune_ft.registry.store import Registry
from raytune_ft.serving.settings import ServeArgs

GATE = ParityGate(max_mean_drift=0.1, clear_margin=1.0)


def judged(
    served: list[float], tokens: list[int], *, question: float | None = -4.0, otherwise: bool = False
) -> Verdict:
    """Against transformers' -1 and -2 nats, -4 in the question, and its answer 7, 8, 9, of which 8 is not clear."""
    trained = Answer([-4.0], [-1.0, -2.0], [7, 8, 9], [3.0, 0.5, 3.0])
    asked = [] if question is None else [question]
    return judge_parity([trained], [Answer(asked, served, tokens, read_otherwise=otherwise)], GATE, "float32")


def test_mean_and_greatest_drift_are_absolute_nats_per_token() -> None:
    verdict = judged([-1.1, -1.96], [7, 8, 9])
    assert (verdict.numbers["answer_drift"], verdict.numbers["question_drift"]) == (pytest.approx(0.07), 0)
    assert verdict.numbers["max_drift"] == pytest.approx(0.1)
    assert (verdict.passed, verdict.numbers["answer_tokens"], verdict.numbers["greedy_compared"]) == (True, 2, 2)


@pytest.mark.parametrize("served", [[-1.25, -2.0], [-0.85, -2.15], [math.nan, -2.0], [-math.inf, -2.0]])
def test_drift_beyond_the_limit_refuses(served: list[float]) -> None:
    assert judged([-1.19, -2.0], [7, 8, 9]).passed
    assert not judged(served, [7, 8, 9]).passed


def test_sure_answers_do_not_hide_that_the_question_drifts() -> None:
    assert judged([-1.0, -2.0], [7, 8, 9], question=-3.91).passed
    assert not judged([-1.0, -2.0], [7, 8, 9], question=-3.8).passed
    assert not judged([-1.0, -2.0], [7, 8, 9], question=math.nan).passed


@pytest.mark.parametrize(
    ("tokens", "differing"),
    [
        ([7, 8, 9], 0),
        ([6, 8, 9], 1),  # the first was clear
        ([7, 5, 4], 0),  # parted where it was not clear; what follows answers another text
        ([7, 8, 4], 1),
        ([7, 8], 0),
        ([], 0),
    ],
)
def test_greedy_answers_count_only_where_transformers_is_clear(tokens: list[int], differing: int) -> None:
    verdict = judged([-1.0, -2.0], tokens)
    assert (verdict.numbers["greedy_differing"], verdict.passed) == (differing, not differing)


def test_rows_that_are_read_as_other_tokens_are_told() -> None:
    verdict = judged([-1.0, -2.0], [7, 8, 9], question=None, otherwise=True)
    assert "1 rows are read as other tokens than in training" in verdict.reason
    assert verdict.numbers["rows_read_otherwise"] == 1


def test_vllm_is_given_the_very_files_that_are_served_later(run: RunDirectory, registry: Registry, engines) -> None:
    seen: dict[str, str] = {}

    def look() -> None:
        directory = Path(engines.asked[-1][1]["adapters"]["candidate"])
        seen.update({path.name: sha256_file(path) for path in directory.iterdir()})
        assert registry.adapters() == [] and directory.is_relative_to(registry.root)

    engines.meanwhile = look
    done = promote(run, registry)
    assert seen == {
        name: sha256_file(done.path / name) for name in ("adapter_model.safetensors", "adapter_config.json")
    }
    assert engines.names == ["transformers", "vLLM"]
    assert not [path for path in (registry.root / ".incoming").iterdir() if path.name != ".lock"]


def test_a_copy_that_changes_while_it_is_examined_is_not_published(
    run: RunDirectory, registry: Registry, engines
) -> None:
    def change() -> None:
        weights = Path(engines.asked[-1][1]["adapters"]["candidate"]) / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x09")

    engines.meanwhile = change
    with pytest.raises(IntegrityError, match="changed while it was examined"):
        promote(run, registry)
    assert registry.adapters() == []


def test_two_promotions_at_once_are_two_versions(run: RunDirectory, registry: Registry, engines) -> None:
    def second() -> None:
        engines.meanwhile = lambda: None
        assert promote(run, registry, skip=["no_worse"]).version == 1

    engines.meanwhile = second
    done = promote(run, registry)
    assert (done.version, done.previous) == (2, 1)
    assert done.gates["no_worse"]["reason"] == "it has the weights of the champion movies@1"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RaytuneError("vLLM: ended with code 1")])
def test_a_promotion_that_is_stopped_leaves_the_registry_as_it_was(
    run: RunDirectory, registry: Registry, engines, stop: BaseException
) -> None:
    promote(run, registry)
    before = sorted(registry.root.rglob("*"))

    def end() -> None:
        raise stop

    engines.meanwhile = end
    with pytest.raises((KeyboardInterrupt, RaytuneError)):
        promote(run, registry)
    assert sorted(registry.root.rglob("*")) == before


def test_an_engine_that_drifts_refuses_with_its_numbers(run: RunDirectory, registry: Registry, engines) -> None:
    engines.drift = 0.5
    with pytest.raises(GateRefusedError, match=r"over 16 rows .* 32 answer tokens drift by 0\.2500 nats in the mean"):
        promote(run, registry)
    assert registry.adapters() == []


class RunningEndpoint:
    """An endpoint that this process started; it answers as transformers does, but for `drift` nats."""

    def __init__(
        self, base_model: Path, dtype: str = "float32", rank: int = 8, drift: float = 0.01, tokens: int = 99
    ) -> None:
        self.args = ServeArgs(base_model=str(base_model), dtype=dtype, max_model_len=tokens)
        self.max_lora_rank, self.drift = rank, drift
        self.asked: list[Path] = []

    def answer_rows(
        self, adapter: Path, rows: list[dict[str, Any]], greedy: int, timeout_s: float
    ) -> list[dict[str, Any]]:
        self.asked.append(adapter)
        return [{"question": [-3.0], "answer": [-0.1 - self.drift, -0.2], "tokens": [5, 6]}] * len(rows)


def test_an_endpoint_that_runs_is_asked_instead_of_an_engine_of_its_own(run, registry, engines, base_model) -> None:
    endpoint = RunningEndpoint(base_model)
    done = promote(run, registry, endpoint=lambda: endpoint)
    assert "vLLM" not in engines.names and len(endpoint.asked) == 1
    assert verify(done.path).gates["parity"]["passed"]
    drifting = RunningEndpoint(base_model, drift=0.9)
    with pytest.raises(GateRefusedError, match="what would be served is not what was trained"):
        promote(run, registry, endpoint=lambda: drifting, skip=["no_worse"])


@pytest.mark.parametrize("other", [{"dtype": "bfloat16"}, {"rank": 1}, {"base_model": Path("x")}, {"tokens": 20}])
def test_an_endpoint_that_would_not_serve_the_winner_so_is_not_asked(run, registry, engines, base_model, other) -> None:
    endpoint = RunningEndpoint(**({"base_model": base_model} | other))
    promote(run, registry, endpoint=lambda: endpoint)
    assert "vLLM" in engines.names and endpoint.asked == []
