"""Verbs of the API keys: keys create, keys list, keys revoke."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raytune_ft.cli.output import console, emit, out, say

app = typer.Typer(help="Make, list and revoke API keys of an endpoint.", no_args_is_help=True, rich_markup_mode=None)
Name = Annotated[str, typer.Argument(help="Whose key it is.")]
File = Annotated[Path, typer.Option("--file", help="File of hashed keys, for serve --api-keys-file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_FILE = Path("keys.json")


@app.command()
def create(name: Name, file: File = DEFAULT_FILE, as_json: AsJson = False) -> None:
    """Create a key and print it; it is shown only once, as the file keeps its hash."""
    from raytune_ft.serving.gateway.keys import create_key

    token = create_key(file, name)
    say(f"{name} is in {file}; keep the key itself now, nobody can show it again")
    emit({"name": name, "key": token}, as_json, lambda: out(token))


@app.command("list")
def list_keys(file: File = DEFAULT_FILE, as_json: AsJson = False) -> None:
    """List the keys: names and times, never the keys."""
    from raytune_ft.serving.gateway.keys import read_keys

    keys = read_keys(file)

    def text() -> None:
        from rich import box
        from rich.table import Table

        table = Table("name", "created", "revoked", box=box.SIMPLE_HEAD)
        for key in keys:
            table.add_row(key.name, key.created, key.revoked or "-")
        console.print(table)

    emit([key.model_dump(exclude={"sha256"}) for key in keys], as_json, text)


@app.command()
def revoke(name: Name, file: File = DEFAULT_FILE, as_json: AsJson = False) -> None:
    """Revoke a key; running endpoints reject it within a second."""
    from raytune_ft.serving.gateway.keys import revoke_key

    key = revoke_key(file, name)
    emit(key.model_dump(exclude={"sha256"}), as_json, lambda: out(f"{name} opens nothing any more"))
