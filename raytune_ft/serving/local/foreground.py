"""`raytune-ft serve` in a terminal: reads `--ask`, shows how to use the endpoint, and waits for Ctrl-C."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_ft.errors import InputError

if TYPE_CHECKING:
    from raytune_ft.serving.local.session import Endpoint


def read_questions(ask: str) -> list[str | dict[str, Any]]:
    """Returns the prompt that `ask` is, or the rows of the file that `@file.jsonl` names.

    Raises:
        InputError: The file is missing or empty, or a line is not a row.
    """
    if not ask.startswith("@"):
        return [ask]
    path = Path(ask[1:])
    if not path.is_file():
        raise InputError(str(path), "is missing", "name a JSONL file after the @")
    rows: list[str | dict[str, Any]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}:{number}", f"is not JSON ({error})", "write one row a line") from error
        if not isinstance(row, str) and not (isinstance(row, dict) and row.keys() & {"prompt", "messages"}):
            raise InputError(f"{path}:{number}", "is no row", 'write {"prompt": ...} or {"messages": [...]}')
        rows.append(row)
    if not rows:
        raise InputError(str(path), "holds no rows", 'write {"prompt": ...} or {"messages": [...]}')
    return rows


def how_to_ask(endpoint: Endpoint) -> list[str]:
    """Returns lines that show how to ask the endpoint with curl, the `openai` client and `raytune-ft chat`."""
    model = next((name for name in endpoint.models if ":" in name), endpoint.models[0])
    key = '-H "Authorization: Bearer $RAYTUNE_FT_API_KEY" ' if endpoint.api_key else ""
    client_key = 'os.environ["RAYTUNE_FT_API_KEY"]' if endpoint.api_key else '"none"'
    body = json.dumps({"model": model, "prompt": "Once", "max_tokens": 16})
    return [
        f"Serving at {endpoint.base_url}; Ctrl-C ends it. Models: {', '.join(endpoint.models)}",
        f"  curl {endpoint.base_url}/completions {key}-H 'Content-Type: application/json' -d '{body}'",
        "  from openai import OpenAI",
        f'  client = OpenAI(base_url="{endpoint.base_url}", api_key={client_key})',
        f'  client.completions.create(model="{model}", prompt="Once", max_tokens=16).choices[0].text',
        f"  raytune-ft chat --url {endpoint.base_url}",
        *([f"  metrics for Prometheus: {endpoint.metrics_url}"] if endpoint.metrics_url else []),
    ]


@contextmanager
def wait_for_stop() -> Iterator[Callable[[], None]]:
    """Yields a function that blocks until Ctrl-C or SIGTERM; before it is called, both raise KeyboardInterrupt."""
    stop = threading.Event()
    waiting = False

    def on_signal(number: int, frame: object) -> None:
        stop.set()
        if not waiting:
            raise KeyboardInterrupt

    def wait() -> None:
        nonlocal waiting
        waiting = True
        while not stop.wait(1.0):
            pass

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wait
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
