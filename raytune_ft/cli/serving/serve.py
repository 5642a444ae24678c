"""Verbs of the endpoint: serve and chat."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raytune_ft.cli.cluster import DASHBOARD
from raytune_ft.cli.output import console, say
from raytune_ft.cli.serving.registry import DEFAULT_REGISTRY, RegistryOption
from raytune_ft.cli.serving.serve_settings import on_cluster, serve_settings

if TYPE_CHECKING:
    from raytune_ft.config.data import PromptForm
    from raytune_ft.serving.local.session import Endpoint

DEFAULT_URL = "http://127.0.0.1:8000/v1"
KeyFile = Annotated[
    Path | None, typer.Option(help="File whose first line is the API key; by default RAYTUNE_FT_API_KEY.")
]


def serve(
    ctx: typer.Context,
    base_model: Annotated[str | None, typer.Option(help="Base to serve; by default the champions'.")] = None,
    registry: RegistryOption = DEFAULT_REGISTRY,
    adapter: Annotated[
        list[str] | None, typer.Option(help="Adapter to serve, by default all; may be repeated.")
    ] = None,
    merged: Annotated[
        list[str] | None, typer.Option(help="Merged version that gets an engine of its own; may be repeated.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; beyond loopback a key is needed.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8000,
    api_key_file: KeyFile = None,
    api_keys_file: Annotated[
        Path | None, typer.Option(help="File of hashed keys, as raytune-ft keys writes it; read anew when it changes.")
    ] = None,
    log_dir: Annotated[Path, typer.Option(help="Directory of the access log and of feedback.")] = Path("serve_log"),
    log_prompts: Annotated[bool, typer.Option("--log-prompts", help="Keep prompts and answers there too.")] = False,
    max_model_len: Annotated[int, typer.Option(help="Tokens of prompt and answer together.")] = 512,
    dtype: Annotated[
        str, typer.Option(help="Number type: auto, bfloat16, float16 or float32; auto is what many requests want.")
    ] = "auto",
    config: Annotated[
        Path | None, typer.Option(help="Take all settings from a file as in serve/; options here override it.")
    ] = None,
    ask: Annotated[str | None, typer.Option(help="Ask PROMPT, or the rows of @file.jsonl, and end.")] = None,
    demo: Annotated[Path | None, typer.Option(help="Ask base and champion held-out rows of this run, and end.")] = None,
    engine_log: Annotated[bool, typer.Option("--engine-log", help="Show what Ray and vLLM print.")] = False,
    metrics_port: Annotated[int, typer.Option(help="Loopback port for Prometheus; 0 takes a free one.")] = 0,
    deploy: Annotated[bool, typer.Option("--deploy", help="Onto a running Ray cluster, and return.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take it away from that cluster.")] = False,
    address: Annotated[str, typer.Option(help="With these two: URL of the cluster's dashboard.")] = DASHBOARD,
    name: Annotated[str | None, typer.Option(help="With these two: name of the application; raytune-ft.")] = None,
    route_prefix: Annotated[str | None, typer.Option(help="With --deploy: path below which it answers.")] = None,
) -> None:
    """Serve a base and its adapters through OpenAI's API until Ctrl-C, or deploy them onto a cluster."""
    from raytune_ft.registry.location import open_registry
    from raytune_ft.serving.local.foreground import read_questions, wait_for_stop
    from raytune_ft.serving.local.session import served

    if deploy or remove:
        on_cluster(ctx, deploy=deploy)
        return
    adapters = adapter or []
    if demo is not None:
        from raytune_ft.paths import RunDirectory
        from raytune_ft.promotion.promote import adapter_of
        from raytune_ft.serving.local.demo import demo as run_demo

        directory = RunDirectory(demo)
        run_demo(directory, open_registry(registry), adapters[0] if adapters else adapter_of(directory), say_result)
        return
    questions = read_questions(ask) if ask is not None else []
    args, _ = serve_settings(ctx)
    served_now = served(args, log=say, engine_log=engine_log, metrics_port=metrics_port)
    with wait_for_stop() as wait, served_now as endpoint:
        if questions:
            _ask_all(endpoint, questions)
        else:
            _say_how(endpoint)
            wait()
    say("stopped; no process is left")


def chat(
    url: Annotated[str, typer.Option(help="The endpoint, ending in /v1.")] = DEFAULT_URL,
    model: Annotated[str | None, typer.Option(help="Model id; by default the first adapter, else the base.")] = None,
    api_key_file: KeyFile = None,
    max_tokens: Annotated[int, typer.Option(help="Tokens of one answer.")] = 128,
) -> None:
    """Talk to a running endpoint; an empty line or Ctrl-D ends it."""
    from raytune_ft.errors import InputError
    from raytune_ft.serving.local.ask import forms, stream
    from raytune_ft.serving.local.session import Endpoint
    from raytune_ft.serving.settings import read_api_key

    endpoint = Endpoint(url, [], read_api_key(str(api_key_file) if api_key_file else None))
    known = forms(endpoint)
    chosen = model or next((name for name, form in known.items() if form), next(iter(known)))
    if chosen not in known:
        raise InputError("--model", f"{chosen!r} is not served", f"choose one of {', '.join(known)}")
    form: PromptForm = known[chosen] or "messages"
    say(f"{chosen}: {'plain completion of what you type' if form == 'prompt_completion' else 'chat'}")
    history: list[dict[str, str]] = []
    while line := _read_line():
        history.append({"role": "user", "content": line})
        asked = line.replace("\\n", "\n") if form == "prompt_completion" else history
        answer = ""
        for piece in stream(endpoint, chosen, asked, form, max_tokens=max_tokens):
            console.print(piece, end="", markup=False, soft_wrap=True)
            answer += piece
        console.print()
        history.append({"role": "assistant", "content": answer})


def say_result(line: str) -> None:
    """Prints a line of the result to stdout."""
    console.print(line, markup=False, soft_wrap=True)


def _read_line() -> str:
    try:
        return input("> ").strip()
    except EOFError:
        return ""


def _ask_all(endpoint: Endpoint, questions: list[str | dict[str, object]]) -> None:
    from raytune_ft.serving.local.ask import ask, forms

    known = forms(endpoint)
    asked = {name: form for name, form in known.items() if "@" not in name}
    shared: PromptForm = next((form for form in asked.values() if form), "messages")  # for the base too
    for question in questions:
        for name, form in asked.items():
            answer = ask(endpoint, name, question, form or shared)
            say_result(f"{answer.model} ({answer.latency_s:.2f} s): {answer.text!r}")


def _say_how(endpoint: Endpoint) -> None:
    from raytune_ft.serving.local.foreground import how_to_ask

    for line in how_to_ask(endpoint):
        say_result(line)
