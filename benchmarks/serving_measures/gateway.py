"""What stands before the engine costs by itself: our endpoint and Ray Serve LLM's own ingress, each before a stub.

Proxy, ingress and replica are the real ones, and our access log is kept; the stub answers at once, whole or in 100
chunks. Both are up and are asked in turns.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from measures.inputs import PEERS
from measures.options import Measure, Options, Row
from measures.processes import SideFailed, python, running_side

from raytune_ft.execution.local_ray.loopback import environment
from raytune_ft.paths import write_json
from raytune_ft.registry.store import Registry
from raytune_ft.serving.settings import ServeArgs
from serving_measures.adapters import add_random
from serving_measures.client import Asked
from serving_measures.endpoints import NAME, arguments, free_port, ours, python_path, ray_settings, wait_until_answering
from serving_measures.sides import Round, Turns
from serving_measures.stub_engine import CHUNKS, VARIABLE
from serving_measures.summary import failures, good, milliseconds, paired_ratio

SIDES = ("gateway",)
ALIAS = f"{NAME}:movies"
KINDS = {"whole answers": False, f"streams of {CHUNKS} chunks": True}
AT_ONCE = {1: 60, 16: 240}
"""Concurrent requests -> requests of a round."""


def measure(options: Options) -> dict[str, Any]:
    """The base on both sides; an adapter by its alias, which is looked up for each request, on ours."""
    rounds = options.rounds_of(SIDES)["gateway"]
    cells: dict[str, Any] = {}
    with options.scratch("gateway") as scratch, _gateways(scratch) as urls:
        settings = ray_settings()
        turns = Turns(urls, rest_s=0.1)
        for model, sides in {NAME: list(urls), ALIAS: ["ours"]}.items():
            of = "base" if model == NAME else "adapter"
            for kind, stream in KINDS.items():
                asked = Asked(model, "Review: fine.\nSentiment:", CHUNKS, stream)
                Turns(urls, rest_s=0.1).cell(f"warm up {of}, {kind}", [[asked] * 32], 8, sides)
                for at_once, number in AT_ONCE.items():
                    name = f"{of}, {kind}, {at_once} concurrent"
                    found = turns.cell(name, [[asked] * number] * rounds, at_once, sides)
                    cells[name] = {"requests_of_a_round": number, **compare(found)}
    return {
        "rounds": rounds,
        "ray_settings": settings,
        "chunks": CHUNKS,
        "failures": failures(turns.heard),
        "cells": cells,
    }


@contextmanager
def _gateways(scratch: Path) -> Iterator[dict[str, str]]:
    registry = Registry(scratch / "registry")
    add_random(registry, "movies", scratch / "adapters", 0)
    registry.set_alias("movies", "champion", 1)
    args = arguments(scratch, registry.root)
    stub = {**VARIABLE, **python_path()}
    with ExitStack() as stack:
        with environment(stub):
            ours_url = stack.enter_context(ours(args))
        yield {"ours": ours_url, "ray": stack.enter_context(_ray_ingress(scratch, args, stub))}


@contextmanager
def _ray_ingress(scratch: Path, args: ServeArgs, variables: dict[str, str]) -> Iterator[str]:
    from raytune_ft.serving.app import engine_settings
    from raytune_ft.serving.models.catalog import build_catalog

    fields, port = scratch / "ray_ingress.json", free_port()
    settings = engine_settings(args, build_catalog(args), gpus=0)
    write_json(fields, {**settings, "lora_config": None})  # it takes adapters from clouds alone
    command = python(PEERS / "ray_ingress.py", fields, str(port))
    with running_side(command, scratch / "ray_ingress", variables) as check:
        url = f"http://127.0.0.1:{port}/v1"
        wait_until_answering(url, check)
        yield url


def compare(found: dict[str, list[Round]]) -> dict[str, Any]:
    """Speed and time of each side, and of ours to Ray's where both were asked.

    Raises:
        SideFailed: A stream lacked chunks, so that the sides did not do the same.
    """
    speeds, result = {}, {}
    for side, rounds in found.items():
        heard = [each for one in rounds for each in good(one.heard)]
        if short := [each for each in heard if each.asked.stream and each.chunks != CHUNKS]:
            raise SideFailed(f"{side}: {len(short)} streams had other than {CHUNKS} chunks, as {short[0].chunks}")
        speeds[side] = [len(good(each.heard)) / each.seconds for each in rounds]
        result[side] = {
            "requests_per_s": round(statistics.median(speeds[side]), 1),
            "requests_per_s_spread": [round(min(speeds[side]), 1), round(max(speeds[side]), 1)],
            "ms": milliseconds([each.seconds for each in heard]),
            "first_ms": milliseconds([each.first_s for each in heard]),
        }
    if len(speeds) == 2:
        result["ours_to_ray"] = paired_ratio(speeds["ours"], speeds["ray"])
    return result


def rows(result: dict[str, Any]) -> list[Row]:
    """A line for each cell."""
    lines = []
    for name, cell in result["cells"].items():
        shown = [
            f"{side} {cell[side]['requests_per_s']:.0f} requests/s, {cell[side]['ms']['median']:.1f} ms"
            for side in ("ours", "ray")
            if side in cell
        ]
        lines.append(Row(f"gateway before a stub, {name}", "stated", "; ".join(shown)))
    if result["failures"]:
        lines.append(Row("gateway before a stub, failed requests", "0", str(result["failures"]), False))
    return lines


GATEWAY = Measure(measure, rows, SIDES)
