"""Writes the model card: README.md with the front matter that Hugging Face's hub reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from raytune_ft.evaluation.uses import Uses
from raytune_ft.methods.rooms import ROOMS
from raytune_ft.registry.manifest import Manifest

CARD_NAME = "README.md"


@dataclass(frozen=True)
class CardFacts:
    """Facts for the card that the manifest does not hold."""

    rows: Mapping[str, int] = field(default_factory=dict)
    """Split -> number of rows."""
    duplicates: Mapping[str, int] = field(default_factory=dict)
    """Pair of splits -> number of rows that are in both."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """The winning trial's configuration."""
    test_rows: int | None = None
    """Number of held-out rows on which base and winner were compared."""
    test_uses: Uses | None = None
    """How often these rows had been used for decisions until then."""
    objective: str | None = None
    """What it was trained for, in words."""
    on_trained_base: Mapping[str, float] = field(default_factory=dict)
    """Metric -> its value on the base as it was held in training, where that was quantized."""


def render_card(manifest: Manifest, peft_config: Mapping[str, Any], facts: CardFacts) -> str:
    """Returns the card's text, which holds no path of this machine."""
    base = manifest.base_model
    shown_base = Path(base).name if Path(base).is_dir() or Path(base).is_absolute() else base
    kind = "finetune" if manifest.merged else "adapter"
    method = manifest.method or ("full" if manifest.full else "lora")
    front = {
        "base_model": shown_base,
        "library_name": "transformers" if manifest.merged else "peft",
        "pipeline_tag": "text-generation",
        "tags": ["full-fine-tuning" if manifest.full else method, "raytune-ft", f"base_model:{kind}:{shown_base}"],
    }
    if manifest.full:
        what = f"`{shown_base}`, all its weights fine-tuned"
    elif manifest.merged:
        what = f"`{shown_base}` with a LoRA adapter in its weights"
    else:
        what = f"A LoRA adapter of `{shown_base}`"
    asked = "plain completion" if manifest.form == "prompt_completion" else "chat, with the base's template"
    lines = [
        "---", yaml.safe_dump(front, sort_keys=False).strip(), "---", "",
        f"# {manifest.adapter}, version {manifest.version}", "",
        f"{what}, the winner (trial {manifest.trial}) of the study `{manifest.study}`.",
        f"Ask it in the form it was trained on: {asked}.", "",
        *([_forced(manifest), ""] if manifest.forced else []),
        f"## Base against this {'model' if manifest.merged else 'adapter'}", "",
        *_metrics(manifest.metrics, facts.test_rows), "",
        *([_quantized(facts.on_trained_base, manifest.metrics), ""] if facts.on_trained_base else []),
        *([facts.test_uses.words(_level(manifest.metrics)), ""] if facts.test_uses else []),
        *(["## Gates", "", *_gates(manifest.gates), ""] if manifest.gates else []),
        "## Data", "", f"Fingerprint `{manifest.data_fingerprint}`.", "",
        *[f"- {split}: {count} rows" for split, count in facts.rows.items()],
        *[f"- {count} rows of {pair} are the same" for pair, count in facts.duplicates.items()], "",
        "## Configuration", "",
        *[f"- `{key}`: {value}" for key, value in facts.parameters.items()],
        *([f"- {facts.objective}"] if facts.objective else []),
        f"- {ROOMS[method].words({**peft_config, 'r': manifest.lora_rank})}", "",
        "## Made by", "", "```", manifest.command, "```", "",
        f"{manifest.created}. Base weights sha256 `{manifest.base_sha256}`.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _quantized(trained: Mapping[str, float], metrics: Mapping[str, Any]) -> str:
    """Says what it costs that the adapter was trained on a quantized base, and is served on the base as it is."""
    served = metrics.get("systems", {}).get("winner", {})
    shown = [f"{name} {value:.4f} there, {_number(served.get(name))} here" for name, value in trained.items()]
    return (
        "It was trained on the base in 4 bits, and is served on the base as it is, on which the table was measured. "
        f"On the same rows: {'; '.join(shown)}."
    )


def _forced(manifest: Manifest) -> str:
    refused = [name for name, gate in manifest.gates.items() if gate.get("passed") is False]
    return f"**Promoted with --force, although these gates refused: {', '.join(refused) or 'gain'}.**"


def _gates(gates: Mapping[str, Any]) -> list[str]:
    words = {True: "passed", False: "refused", None: "not run"}
    shown = [(name, words[gate.get("passed")], str(gate.get("reason", ""))) for name, gate in gates.items()]
    return ["| gate | | |", "|---|---|---|", *[f"| {' | '.join(row)} |" for row in shown]]


def _metrics(metrics: Mapping[str, Any], test_rows: int | None) -> list[str]:
    systems, difference = metrics.get("systems", {}), metrics.get("difference", {})
    if not difference:
        return ["Not evaluated."]
    over = f"On {test_rows} held-out rows that no trial saw:" if test_rows else "On held-out rows that no trial saw:"
    table = [over, "", "| metric | base | winner | difference | interval |", "|---|---|---|---|---|"]
    for name, gain in difference.items():
        base, winner = systems.get("base", {}).get(name), systems.get("winner", {}).get(name)
        level = f"{gain.get('level', 0.95):.0%}"
        table.append(
            f"| {name} | {_number(base)} | {_number(winner)} | {gain['mean']:+.4f} "
            f"| {level}: {gain['low']:+.4f} to {gain['high']:+.4f} |"
        )
    return table


def _level(metrics: Mapping[str, Any]) -> float:
    """Returns the confidence level of the intervals, which is the same for each metric."""
    return next((float(gain.get("level", 0.95)) for gain in metrics.get("difference", {}).values()), 0.95)


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "-"
