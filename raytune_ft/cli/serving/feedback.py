"""Verb `feedback`: turns clients' feedback on answers into training rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from raytune_ft.cli.output import emit, out

Form = Literal["messages", "prompt_completion"]


def feedback(
    log_dir: Annotated[Path, typer.Argument(help="The endpoint's log directory, e.g. serve_log.")],
    to: Annotated[Path, typer.Option("--to", help="JSONL file to write.")],
    min_score: Annotated[float, typer.Option(help="Least score of an answer that was not corrected.")] = 0.5,
    form: Annotated[
        Form | None,
        typer.Option("--format", metavar="FORM", help="messages or prompt_completion, where there are both."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write the approved and corrected answers of an endpoint as training rows."""
    from raytune_ft.config.data import DataFormat
    from raytune_ft.monitoring.feedback_rows import collect, write_rows

    found = collect(log_dir, min_score, DataFormat(form) if form else None)
    if found.rows:
        write_rows(found.rows, to)

    def text() -> None:
        written = f"{to}: {len(found.rows)} rows ({found.corrected} corrected, {found.approved} approved)"
        out(written if found.rows else "no rows, so nothing was written")
        if len(found.by_key) > 1:
            out("  by key: " + ", ".join(f"{key} {count}" for key, count in sorted(found.by_key.items())))
        for reason, count in sorted(found.left_out.items()):
            out(f"  left out {count}: {reason}")
        if found.rows:
            out(f"next: data: {{train: {to}, format: {found.form.value}}} in an experiment file")

    value = {
        "to": str(to) if found.rows else None,
        "format": found.form.value,
        "rows": len(found.rows),
        "corrected": found.corrected,
        "approved": found.approved,
        "by_key": found.by_key,
        "left_out": found.left_out,
    }
    emit(value, as_json, text)
