"""Reads the endpoint's application from a Serve config file, and prepares settings for the nodes of a cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raytune_ft.config.files.yaml import read_yaml
from raytune_ft.errors import InputError
from raytune_ft.registry.bucket.bucket import is_remote
from raytune_ft.registry.location import absolute, open_registry
from raytune_ft.serving.settings import ServeArgs

IMPORT_PATH = "raytune_ft.serving.app:build_app"


@dataclass(frozen=True)
class ServeFile:
    """The parts of a Serve config file that concern one application."""

    args: dict[str, Any]
    """The fields of ServeArgs."""
    name: str = "raytune-ft"
    route_prefix: str = "/"
    application: dict[str, Any] = field(default_factory=lambda: {"import_path": IMPORT_PATH})
    """The application's other fields, such as `runtime_env`."""
    cluster: dict[str, Any] = field(default_factory=dict)
    """The fields beside `applications`, such as `http_options`, which are used only if no Serve runs yet."""

    @property
    def http(self) -> dict[str, Any]:
        """The file's `host` and `port`, for ServeArgs."""
        return {name: value for name, value in self.cluster.get("http_options", {}).items() if name in ("host", "port")}


def read_serve_file(path: Path) -> ServeFile:
    """Reads a file like those in `serve/`.

    Raises:
        InputError: It is not a Serve config file, or does not hold exactly one endpoint of this package.
    """
    if not path.is_file():
        raise InputError(str(path), "is missing", "name a file like serve/one_gpu.yaml")
    content = read_yaml(path).value
    listed = content.get("applications")
    ours = [each for each in listed or [] if isinstance(each, dict) and each.get("import_path") == IMPORT_PATH]
    if len(ours) != 1 or not isinstance(ours[0].get("args"), dict):
        what = f"has {len(ours)} applications with import_path {IMPORT_PATH} and args"
        raise InputError(str(path), what, "write one, as in serve/one_gpu.yaml")
    kept = {name: value for name, value in ours[0].items() if name not in ("args", "name", "route_prefix")}
    return ServeFile(
        args=ours[0]["args"],
        name=str(ours[0].get("name", "raytune-ft")),
        route_prefix=str(ours[0].get("route_prefix", "/")),
        application=kept,
        cluster={name: value for name, value in content.items() if name != "applications"},
    )


def for_cluster(args: ServeArgs) -> tuple[ServeArgs, tuple[str, ...]]:
    """Makes the settings valid on every node; returns them with the absolute paths that every node must see.

    A base that is not a directory on this machine is left as it is: a hub id, or a directory on the nodes. If the
    registry can be read here, merged versions are named by number, because Serve does not redeploy for equal
    arguments and would not notice that an alias has moved.
    """
    paths: dict[str, str] = {}
    if Path(args.base_model).is_dir():
        paths["base_model"] = absolute(args.base_model)
    for name in ("registry", "api_key_file", "api_keys_file", "log_dir"):
        if (value := getattr(args, name)) is not None and not is_remote(value):
            paths[name] = absolute(value)
    update: dict[str, Any] = {**paths, "merged": _numbers(args)}
    return args.model_copy(update=update), tuple(dict.fromkeys(paths.values()))


def _numbers(args: ServeArgs) -> tuple[str, ...]:
    if args.registry is None or not (is_remote(args.registry) or Path(args.registry).is_dir()):
        return args.merged
    registry = open_registry(args.registry)
    return tuple(registry.resolve(reference).reference for reference in args.merged)
