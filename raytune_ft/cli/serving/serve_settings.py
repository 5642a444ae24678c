"""Merges the options and the config file of the verb `serve`, and deploys the endpoint to a cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from raytune_ft.cli.output import out, say

if TYPE_CHECKING:
    from raytune_ft.cluster.serve_file import ServeFile
    from raytune_ft.serving.settings import ServeArgs

_PATHS = ("api_key_file", "api_keys_file", "log_dir")


def serve_settings(ctx: typer.Context, *, deploying: bool = False) -> tuple[ServeArgs, ServeFile]:
    """Returns the endpoint's settings from options and config file, and that file, or a default one without `--config`.

    Raises:
        InputError: A setting is wrong, or no champion says which base to serve.
    """
    from raytune_ft.cluster.serve_file import ServeFile, read_serve_file
    from raytune_ft.registry.location import open_registry
    from raytune_ft.serving.models.champion import base_of_champions, registry_argument
    from raytune_ft.serving.settings import ServeArgs, parse_serve_args

    config: Path | None = ctx.params["config"]
    file = read_serve_file(config) if config else ServeFile({})
    options: dict[str, Any] = {name: value for name, value in ctx.params.items() if name in ServeArgs.model_fields}
    options["adapters"] = ctx.params["adapter"] or []
    options["merged"] = ctx.params["merged"] or []
    options["registry"] = registry_argument(ctx.params["registry"])
    options |= {name: str(options[name].resolve()) for name in _PATHS if options[name] is not None}
    used = {name for name in options if config is None or _typed(ctx, name)}
    if deploying and not _typed(ctx, "log_dir"):
        used.discard("log_dir")  # the default is a directory of this machine, not of the cluster
    elif not deploying and "log_dir" not in file.args:
        used.add("log_dir")
    settings = {**file.http, **file.args, **{name: options[name] for name in used}}
    if settings.get("base_model") is None:
        registry = open_registry(settings.get("registry") or ctx.params["registry"])
        settings["base_model"] = base_of_champions(registry, list(settings.get("adapters", ())))
    named = {name: ctx.params[name] for name in ("name", "route_prefix") if ctx.params[name] is not None}
    return parse_serve_args(settings), replace(file, **named)


def on_cluster(ctx: typer.Context, *, deploy: bool) -> None:
    """Deploys the endpoint to a running cluster, or removes it."""
    from raytune_ft.cluster import deploy as cluster
    from raytune_ft.cluster.serve_file import ServeFile, read_serve_file

    address: str = ctx.params["address"]
    if not deploy:
        config: Path | None = ctx.params["config"]
        name = ctx.params["name"] or (read_serve_file(config) if config else ServeFile({})).name
        cluster.remove(name, address=address, log=say)
        out(f"{name} is gone")
        return
    args, file = serve_settings(ctx, deploying=True)
    done = cluster.deploy(args, file, address=address, log=say)
    beside = f"; beside it run {', '.join(done.others)}" if done.others else ""
    out(f"{done.name} answers at {done.base_url}{beside}")


def _typed(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source("adapter" if name == "adapters" else name)
    return source is not None and source.name == "COMMANDLINE"
