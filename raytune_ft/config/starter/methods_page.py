"""Generates docs/methods.md from the facts of objectives and methods; `python -m` writes it to standard output."""

from __future__ import annotations

from typing import Any

from raytune_ft.config.data import DataFormat
from raytune_ft.config.methods.choice import METHODS
from raytune_ft.config.objectives.choice import OBJECTIVES

HEADER = """\
# Objectives and methods

What can be trained, how, and where it is served; generated from the facts in `raytune_ft/config/objectives/` and
`raytune_ft/config/methods/` by `python -m raytune_ft.config.starter.methods_page`. Settings of each are in
[configuration.md](configuration.md), formats of rows in [data.md](data.md); `custom` is described in
[custom.md](custom.md).
"""
_STRATEGIES = (("ddp", "ddp"), ("deepspeed", "deepspeed, ZeRO 1 and 2"), ("deepspeed", "deepspeed, ZeRO 3"))
_SERVED = {"as_it_is": "vLLM, as an adapter", "whole": "vLLM, a model of its own"}

_MAKES = {"causal_lm": "a language model", "anything": "what its trainer makes"}


def render() -> str:
    """Returns the whole page as Markdown."""
    return "\n".join([HEADER, *_objectives(), "", *_methods(), "", *_together()]) + "\n"


def _objectives() -> list[str]:
    rows_of = _table("rows (`data.format`)", "what leads a search", "also reported", "`evaluate.metrics`", "makes")
    lines = ["## Objectives", "", *rows_of]
    for name, facts in OBJECTIVES.items():
        makes = _MAKES[facts.makes]
        if name == "custom":
            lines.append(
                f"| `custom` | its own | the first of `objective.metrics` | the others of them | none | {makes} |"
            )
            continue
        rows = ", ".join(f"`{each.value}`" for each in DataFormat if each.rows == facts.rows)
        reports: Any = facts.reports  # of `custom` alone it is a property
        first, *others = (f"`{each.name}`, {each.direction}" for each in reports)
        metrics = ", ".join(f"`{each}`" for each in facts.row_metrics)
        lines.append(f"| `{name}` | {rows} | {first} | {'; '.join(others) or 'nothing'} | {metrics} | {makes} |")
    lines += ["", *_table("a trial has diverged", "searched settings of its own", "best learning rate", "lanes")]
    for name, facts in OBJECTIVES.items():
        by = (
            f"`{facts.diverges_by}` far above the base's, or no number"
            if facts.diverges_by
            else "a metric is no number"
        )
        searched = ", ".join(f"`{each}`" for each in facts.searched) or "none"
        rate = "its own" if name == "custom" else "1" if facts.rate == 1 else f"{facts.rate:g} of `sft`'s"
        lines.append(f"| `{name}` | {by} | {searched} | {rate} | {_lanes(facts.not_on_lanes)} |")
    return lines


def _methods() -> list[str]:
    heads = _table("what a trial leaves", "the base in training", "best learning rate", "lanes", "served by")
    lines = ["## Methods", "", *heads]
    for name, facts in METHODS.items():
        held = "in 4 bits (nf4)" if facts.base_loaded == "nf4" else "in `train.dtype`" if name == "lora" else "trained"
        rate = "1" if facts.rate == 1 else f"{facts.rate:g} of `lora`'s"
        left = "an adapter" if facts.artefact == "adapter" else "a whole model"
        served = _SERVED[facts.served]
        if facts.merged_with:
            served += f"; merged into the base with `{'`, `'.join(facts.merged_with)}`"
        lines.append(f"| `{name}` | {left} | {held} | {rate} | {_lanes(facts.not_on_lanes)} | {served} |")
    return lines


def _together() -> list[str]:
    lines = ["## Together", "", *_table("method", "`resources.strategy`", "runner", "served", first="objective")]
    for objective, of in OBJECTIVES.items():
        if of.rows is None:
            lines.append(f"| `{objective}` | its own | its own | isolated | by its user |")
            continue
        for method, facts in METHODS.items():
            for strategy, words in _STRATEGIES:
                if strategy in facts.strategies:
                    on_lane = of.not_on_lanes is None and facts.not_on_lanes is None and "ZeRO 3" not in words
                    runner = "lane, or isolated" if on_lane else "isolated"
                    lines.append(f"| `{objective}` | `{method}` | {words} | {runner} | {_SERVED[facts.served]} |")
    return lines


def _table(*heads: str, first: str = "") -> list[str]:
    return [f"| {' | '.join([first, *heads])} |", "|---" * (len(heads) + 1) + "|"]


def _lanes(refusal: str | None) -> str:
    return "yes" if refusal is None else f"no: {refusal}"


if __name__ == "__main__":
    print(render(), end="")
