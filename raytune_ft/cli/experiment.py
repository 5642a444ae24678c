"""Verbs `init` and `check`: write an experiment file, and check one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from raytune_ft.cli.output import console, emit, out, say

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, e.g. train.max_steps=20; may be repeated."),
]


def init(
    base_model: Annotated[str, typer.Option("--base-model", help="Model directory or hub id.")],
    train: Annotated[Path, typer.Option("--train", help="JSONL file of training rows.")],
    test: Annotated[Path | None, typer.Option("--test", help="JSONL file of rows to prove the winner on.")] = None,
    to: Annotated[Path, typer.Option("--to", help="File to write.")] = Path("experiment.yaml"),
    name: Annotated[str | None, typer.Option("--name", help="Name of the experiment.")] = None,
    objective: Annotated[
        str | None, typer.Option("--objective", help="What is learned; by default what the rows are for: sft or dpo.")
    ] = None,
    method: Annotated[str, typer.Option("--method", help="What is trained: lora, qlora or full.")] = "lora",
    full: Annotated[bool, typer.Option("--full", help="The same as --method full.")] = False,
) -> None:
    """Write a commented experiment file for your own model and data."""
    from raytune_ft.config.starter.starter import write_starter
    from raytune_ft.errors import InputError

    if full and method != "lora":
        raise InputError("--full", f"is the same as --method full, and --method is {method}", "leave one of them out")
    write_starter(
        to,
        name=name,
        base_model=base_model,
        train=train,
        test=test,
        method="full" if full else method,
        objective=objective,
    )
    say(f"wrote {to}")
    if test is None:
        say("warning: without data.test the winner can't be evaluated or promoted; add rows that no trial sees")
    say(f"next: raytune-ft check {to} && raytune-ft sweep {to}")


def check(
    experiment: Annotated[Path | None, typer.Argument(help="Experiment file.")] = None,
    overrides: Overrides = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of experiment files.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check an experiment file, its space, its model and every line of its data; start nothing."""
    from raytune_ft.config.load import load_experiment
    from raytune_ft.config.search.fits import search_warnings
    from raytune_ft.config.starter.schema import experiment_schema
    from raytune_ft.data.base_model import check_base_model
    from raytune_ft.data.checks import check_data
    from raytune_ft.errors import InputError
    from raytune_ft.execution.runner import choose_runner
    from raytune_ft.search.earlier_studies.warm_start import check_warm_start

    if schema:
        console.print_json(json.dumps(experiment_schema()))
        return
    if experiment is None:
        raise InputError("check", "no experiment file given", "raytune-ft check experiments/quickstart.yaml")
    checked = load_experiment(experiment, overrides or ())
    check_base_model(checked)
    check_warm_start(checked)
    choice = choose_runner(checked)
    summary = check_data(checked)
    warnings = [*search_warnings(checked), *summary.warnings]
    result = {
        "experiment": checked.name,
        "base_model": checked.base_model,
        "splits": summary.rows,
        "runner": choice.runner.type,
        "runner_reason": choice.reason,
        "warnings": warnings,
        "ok": True,
    }

    def text() -> None:
        rows = ", ".join(f"{split} {count}" for split, count in summary.rows.items())
        read = f"{checked.base_model}; rows: {rows}" if checked.trains_on_rows else f"{checked.objective.type}"
        out(f"{experiment}: ok ({read})")
        out(f"runner: {choice.runner.type} ({choice.reason})")

    for warning in warnings:
        say(f"warning: {warning}")
    emit(result, as_json, text)
