"""How far vLLM's log-probabilities lie from transformers', for honest adapters and for ones with twice their alpha.

Takes the last checkpoint of each trial of a finished run (by default the quickstart's), asks transformers and vLLM what
the gate `parity` asks, and measures the perplexity that the gate `retention` judges. Writes
benchmarks/results/parity.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from measures.rounds import machine

ROOT = Path(__file__).parents[1]
FILES = ("adapter_model.safetensors", "adapter_config.json")


def checkpoints(run: Path) -> dict[str, Path]:
    """Trial -> directory of its last adapter."""
    found: dict[str, Path] = {}
    for adapter in sorted(run.glob(f"trials/*/checkpoints/step-*/{FILES[0]}")):
        found[adapter.parents[2].name] = adapter.parent
    return found


def transformers_side(run: Path, adapters: dict[str, Path], rows: int) -> dict[str, Any]:
    """Answers and perplexities of all adapters, from one loaded base; in a process of its own, which frees it."""
    from datasets import load_from_disk
    from peft import PeftModel

    from raytune_ft.config.load import load_experiment
    from raytune_ft.data.prepared import open_prepared
    from raytune_ft.data.tokens.tokenizer import load_tokenizer
    from raytune_ft.evaluation.retention import general_text, perplexity, tokenised
    from raytune_ft.methods.weights.base_model import load_base
    from raytune_ft.promotion.asked import choose_rows
    from raytune_ft.promotion.reference import answers

    experiment, data = load_experiment(run / "experiment.yaml"), open_prepared(run / "data")
    tokenizer = load_tokenizer(experiment.base_model)
    asked = choose_rows(load_from_disk(data.split("test")), data.read_test_rows(), tokenizer, rows)
    text, pad = tokenised(general_text(None), tokenizer), tokenizer.pad_token_id
    model: Any = load_base(experiment)
    found: dict[str, Any] = {"answers": {}, "perplexity": {"base": perplexity(model.eval(), text, pad)[0]}}
    for number, (trial, path) in enumerate(adapters.items()):
        if number == 0:
            model = PeftModel.from_pretrained(model, path, adapter_name=trial)
        else:
            model.load_adapter(str(path), trial)
        model.set_adapter(trial)
        found["answers"][trial] = answers(model.eval(), asked, 16, pad, tokenizer.eos_token_id)
        found["perplexity"][trial] = perplexity(model, text, pad)[0]
        print(f"transformers: trial {trial} done", file=sys.stderr, flush=True)
    return found | {"rows": [row.to_json() for row in asked], "base_model": experiment.base_model}


def doubled(adapter: Path, target: Path) -> Path:
    """A copy with twice the alpha."""
    target.mkdir(parents=True)
    shutil.copy(adapter / FILES[0], target)
    config = json.loads((adapter / FILES[1]).read_text())
    (target / FILES[1]).write_text(json.dumps({**config, "lora_alpha": 2 * config["lora_alpha"]}))
    return target


def vllm_side(asked: dict[str, Any], adapters: dict[str, Path]) -> dict[str, Any]:
    """Answers of all adapters, from one engine."""
    from raytune_ft.promotion.child import run_child

    spec = {
        "base_model": asked["base_model"], "base_sha256": "", "trust_remote_code": False, "gpus": None,
        "adapters": {name: str(path) for name, path in adapters.items()}, "gpu_memory_utilization": None,
        "lora_rank": max(json.loads((path / FILES[1]).read_text())["r"] for path in adapters.values()),
        "max_model_len": max(row["length"] for row in asked["rows"]) + 17, "rows": asked["rows"], "greedy": 16,
    }  # fmt: skip
    return run_child("raytune_ft.promotion.engine", spec, 3600, lambda line: print(line, file=sys.stderr), "vLLM")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/quickstart"), help="Directory of a finished run.")
    parser.add_argument("--rows", type=int, default=16, help="Rows of its test split.")
    parser.add_argument("--trials", nargs="*", help="Only these, e.g. 0000 0007.")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results/parity.json")
    options = parser.parse_args()
    run = options.run.resolve()
    adapters = {trial: path for trial, path in checkpoints(run).items() if trial in (options.trials or [trial])}
    if not adapters:
        sys.exit(f"{run}: has no adapters; run raytune-ft quickstart first")
    load_before = os.getloadavg()[0]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        asked = pool.apply(transformers_side, (run, adapters, options.rows))
    with tempfile.TemporaryDirectory() as scratch:
        twice = {f"{trial}-doubled": doubled(path, Path(scratch) / trial) for trial, path in adapters.items()}
        served = vllm_side(asked, {**adapters, **twice})["answers"]
    result = {
        "machine": machine(),
        "load_before": round(load_before, 2), "load_after": round(os.getloadavg()[0], 2), "rounds": 1,
        "perplexity_of_the_base": round(asked["perplexity"]["base"], 2),
        "trials": {trial: judged(run, trial, path, asked, served) for trial, path in adapters.items()},
    }  # fmt: skip
    options.results.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def judged(run: Path, trial: str, path: Path, asked: dict[str, Any], served: dict[str, Any]) -> dict[str, Any]:
    """What the gates would make of one trial."""
    from raytune_ft.config.promotion import ParityGate
    from raytune_ft.promotion.parity import Answer, judge_parity

    trained = [Answer(**answer) for answer in asked["answers"][trial]]
    found: dict[str, Any] = {
        "parameters": json.loads((run / "trials" / trial / "config.json").read_text())["parameters"],
        "step": int(path.name.removeprefix("step-")),
        "retention_ratio": round(asked["perplexity"][trial] / asked["perplexity"]["base"], 3),
    }
    for name, key in (("honest", trial), ("doubled", f"{trial}-doubled")):
        verdict = judge_parity(trained, [Answer(**answer) for answer in served[key]], ParityGate())
        numbers = {what: round(value, 4) for what, value in verdict.numbers.items()}
        found[name] = {"passed": verdict.passed, **numbers}
    return found


if __name__ == "__main__":
    main()
