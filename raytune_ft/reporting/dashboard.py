"""Serves optuna-dashboard over a run's study."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from raytune_ft.config.load import load_recorded
from raytune_ft.errors import InputError
from raytune_ft.paths import RunDirectory
from raytune_ft.search.study.storage import journal_path, open_storage


def serve_dashboard(run: RunDirectory, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serves the dashboard until interrupted.

    Args:
        run: The run directory.
        host: Address to listen on.
        port: Port to listen on.
        ready: Is called with the URL once the server listens.

    Raises:
        InputError: When there is no study to show, its storage does not answer, or the port is taken.
    """
    search = load_recorded(run).search
    storage = search.storage if search else None
    file = journal_path(storage) if storage else run.study
    if file is not None and not file.is_file():
        raise InputError(str(file), "no such file", "the sweep writes it when it starts")
    from optuna_dashboard import wsgi  # type: ignore[import-untyped]

    opened = open_storage(storage, run)
    try:
        server = make_server(host, port, wsgi(opened), _ThreadedServer, _QuietHandler)
    except OSError as error:
        raise InputError(f"{host}:{port}", f"can't listen there ({error.strerror})", "choose another --port") from error
    with server, suppress(KeyboardInterrupt):
        ready(f"http://{f'[{host}]' if ':' in host else host}:{port}/dashboard")
        server.serve_forever()


class _ThreadedServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing: a browser polls every few seconds."""
