"""The endpoint's application in a Serve config file, and such a file's content for one that was named by options."""

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
    """What of a Serve config file is of one application."""

    args: dict[str, Any]
    """Fields of ServeArgs."""
    name: str = "raytune-ft"
    route_prefix: str = "/"
    application: dict[str, Any] = field(default_factory=lambda: {"import_path": IMPORT_PATH})
    """Its other fields, e.g. `runtime_env`."""
    cluster: dict[str, Any] = field(default_factory=dict)
    """What stands beside `applications`: `http_options` and the like, which count where no Serve runs yet."""

    @property
    def http(self) -> dict[str, Any]:
        """`host` and `port` as the file has them, for ServeArgs."""
        return {name: value for name, value in self.cluster.get("http_options", {}).items() if name in ("host", "port")}


def read_serve_file(path: Path) -> ServeFile:
    """Reads a file like those in `serve/`.

    Raises:
        InputError: It is none, or holds no endpoint of this package, or several.
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
    """The arguments with paths that mean the same on every node, and those paths, which every node must see.

    A base that is no directory here stays as it is: a hub id, or a directory of the nodes. Of merged versions the
    numbers are told, where the registry can be read here: Serve does nothing for arguments that it knows already.
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
