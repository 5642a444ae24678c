"""Which gates run, in what order, and what a refusal leaves."""

from __future__ import annotations

import importlib.util
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from raytune_ft.cli.app import app
from raytune_ft.errors import InputError, IntegrityError, RaytuneError
from raytune_ft.paths import RunDirectory, write_json
from raytune_ft.promotion.gates import GateRefusedError, Verdict
from raytune_ft.promotion.promote import promote
from raytune_ft.registry.journal import read_journal
from raytune_ft.registry.manifest import verify
from raytune_ft.registry.store import Registry

GATES = ["files", "format", "base", "gain", "retention", "no_worse", "parity"]
FORGOTTEN = {"texts": 40, "tokens": 1500, "base": 20.0, "winner": 60.0, "ratio": 3.0}


def setting(run: RunDirectory, **values: Any) -> None:
    experiment = yaml.safe_load(run.experiment.read_text())
    run.experiment.write_text(yaml.safe_dump({**experiment, "promotion": values}))


def listed(registry: Registry) -> dict[str, bytes]:
    """Every file that the registry shows, and its bytes."""
    return {
        str(path.relative_to(registry.root)): path.read_bytes()
        for path in sorted(registry.root.rglob("*"))
        if path.is_file() and path.name != ".lock" and ".incoming" not in path.parts
    }


def test_what_each_gate_found_is_in_manifest_card_and_journal(run: RunDirectory, registry: Registry) -> None:
    said: list[str] = []
    done = promote(run, registry, say=said.append)
    assert list(done.gates) == GATES
    assert {name for name, gate in done.gates.items() if gate["passed"] is not True} == {"no_worse"}
    manifest = verify(done.path)
    assert manifest.gates == done.gates
    assert manifest.gates["parity"]["answer_drift"] == pytest.approx(0.005)
    (move,) = read_journal(registry, "movies")
    assert (move.action, move.after, move.gates, move.forced) == ("promote", 1, done.gates, False)
    card = (done.path / "README.md").read_text()
    assert "| no_worse | not run | there is no champion yet |" in card and "| gain | passed | accuracy +0.08" in card
    assert [line.split(":")[0] for line in said if line.startswith("gate")] == [f"gate {name}" for name in GATES]


def test_a_cheap_gate_refuses_before_an_engine_starts(run: RunDirectory, registry: Registry, evaluate, engines) -> None:
    evaluate(retention=FORGOTTEN)
    with pytest.raises(GateRefusedError, match=r"retention: .* 3\.000 times, above the limit 2; nothing was promot"):
        promote(run, registry)
    assert engines.asked == [] and not registry.root.exists()


@pytest.mark.parametrize("gate", ["gain", "retention", "no_worse", "parity"])
@pytest.mark.parametrize("by", ["skip", "null"])
def test_a_gate_that_is_switched_off_is_recorded_as_not_run(
    run: RunDirectory, registry: Registry, evaluate, gate: str, by: str
) -> None:
    promote(run, registry)
    evaluate(right=300)  # other scores of the same weights: nothing is compared
    if by == "null":
        setting(run, **{gate: None})
    done = promote(run, registry, skip=[gate] if by == "skip" else [])
    why = "--skip" if by == "skip" else f"promotion.{gate}: null"
    assert verify(done.path).gates[gate] == {"passed": None, "reason": f"switched off by {why}"}
    assert not done.forced


def test_without_its_engines_a_promotion_starts_nothing(run: RunDirectory, registry: Registry, engines) -> None:
    promote(run, registry, skip=["parity", "no_worse"])
    assert engines.asked == []


@pytest.mark.parametrize("gate", ["files", "base", "format", "all", ""])
def test_what_costs_nothing_is_never_skipped(run: RunDirectory, registry: Registry, gate: str) -> None:
    with pytest.raises(InputError, match="skip gain, retention, no_worse, parity"):
        promote(run, registry, skip=[gate])


def test_force_goes_past_how_good_it_is_and_the_card_says_so(run: RunDirectory, registry: Registry, evaluate) -> None:
    evaluate(retention=FORGOTTEN, difference={"accuracy": {"mean": 0, "low": -0.1, "high": 0.1, "level": 0.95}})
    done = promote(run, registry, force=True)
    assert done.forced and verify(done.path).forced
    assert "although these gates refused: gain, retention.**" in (done.path / "README.md").read_text()
    assert verify(done.path).command.endswith("--force")
    (move,) = read_journal(registry, "movies")
    assert move.forced


def test_force_never_goes_past_parity(run: RunDirectory, registry: Registry, engines) -> None:
    promote(run, registry)
    before = listed(registry)
    engines.drift = 0.5
    with pytest.raises(GateRefusedError, match="what would be served is not what was trained"):
        promote(run, registry, force=True)
    assert listed(registry) == before


def test_a_base_whose_weights_changed_since_training_is_refused(
    run: RunDirectory, registry: Registry, base_model: Path
) -> None:
    weights = base_model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x07")
    with pytest.raises(GateRefusedError, match=r"base: the run was trained on weights of sha256") as refused:
        promote(run, registry, force=True)
    assert "--force" not in str(refused.value)


def test_a_base_that_changed_between_training_and_evaluation_is_refused(
    run: RunDirectory, registry: Registry, evaluate
) -> None:
    evaluation = json.loads(run.evaluation.read_text())
    evaluate(winner={**evaluation["winner"], "base_sha256": "0" * 64})
    with pytest.raises(GateRefusedError, match="the run was evaluated on weights of sha256 000000000000"):
        promote(run, registry)


def test_a_run_that_recorded_no_hash_is_taken_by_name_and_the_card_says_so(
    run: RunDirectory, registry: Registry
) -> None:
    winner = json.loads(run.winner.read_text())
    write_json(run.winner, {key: value for key, value in winner.items() if key != "base_sha256"})
    done = promote(run, registry)
    assert "recorded no hash" in done.gates["base"]["reason"]


@pytest.mark.parametrize("retention", [None, {"base": 20.0}])
def test_an_evaluation_that_measured_no_retention_names_the_ways_out(
    run: RunDirectory, registry: Registry, evaluate, retention: Any
) -> None:
    evaluate(retention=retention)
    with pytest.raises(IntegrityError, match=r"run evaluate again, or --skip retention"):
        promote(run, registry)
    promote(run, registry, skip=["retention"])


def test_a_ratio_that_is_no_number_is_refused(run: RunDirectory, registry: Registry, evaluate) -> None:
    evaluate(retention={**FORGOTTEN, "ratio": float("nan")})
    with pytest.raises(GateRefusedError, match="retention"):
        promote(run, registry)


def test_without_vllm_one_line_names_the_way_out(
    run: RunDirectory, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "vllm" else real(name, *rest))
    result = CliRunner().invoke(app, ["promote", str(run.root)])
    assert isinstance(result.exception, InputError)
    assert "vLLM is not installed" in str(result.exception) and "--skip parity" in str(result.exception)
    assert "\n" not in str(result.exception)
    promote(run, registry, skip=["parity"])


def test_the_verb_takes_gates_to_skip_and_names_those_it_was_forced_past(run: RunDirectory, evaluate) -> None:
    evaluate(difference={"accuracy": {"mean": 0, "low": -0.1, "high": 0.1, "level": 0.95}})
    result = CliRunner().invoke(app, ["promote", str(run.root), "--force", "--skip", "parity", "--skip", "no_worse"])
    assert result.exit_code == 0, result.output
    assert "(forced past gain)" in result.stdout


def test_a_refusal_crosses_a_process_with_its_verdict() -> None:
    error = GateRefusedError("runs/x", Verdict("gain", False, "none"))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.verdict) == (
        "runs/x: gain: none; nothing was promoted; --force promotes it anyway",
        error.verdict,
    )


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pickle": (
        lambda directory: (directory / "adapter_model.safetensors").rename(directory / "adapter_model.bin"),
        "a pickle, which can run code",
    ),
    "a truncated config": (
        lambda directory: (directory / "adapter_config.json").write_bytes(
            (directory / "adapter_config.json").read_bytes()[:40]
        ),
        "not whole JSON",
    ),
    "truncated weights": (
        lambda directory: (directory / "adapter_model.safetensors").write_bytes(
            (directory / "adapter_model.safetensors").read_bytes()[:-8]
        ),
        "adapter_model.safetensors",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_27_a_broken_adapter_is_refused_at_promotion(
    run: RunDirectory, registry: Registry, engines, fault: str
) -> None:
    promote(run, registry)
    before, engines.asked = listed(registry), []
    harm, words = FAULTS[fault]
    harm(run.root / "trials/0003/checkpoints/10")
    with pytest.raises(IntegrityError, match=words):
        promote(run, registry, force=True)
    assert listed(registry) == before and engines.asked == []


def test_fault_27_an_adapter_of_another_base_is_refused_at_promotion(
    run: RunDirectory, registry: Registry, write_adapter, evaluate
) -> None:
    promote(run, registry)
    before = listed(registry)
    write_adapter(base_model_name_or_path="org/other-base")
    evaluate()
    with pytest.raises(RaytuneError, match="the adapter's base is 'org/other-base'"):
        promote(run, registry, force=True)
    assert listed(registry) == before
