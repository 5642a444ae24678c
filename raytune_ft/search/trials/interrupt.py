"""Handles Ctrl-C while lanes train: Tune waits for trials' proxies, and these for reports that may take minutes."""

from __future__ import annotations

import signal
import threading
from typing import Any

from ray.tune import Callback


class ReleaseProxies(Callback):
    """Ends the wait of all proxies when the user stops the sweep; runs in the driver.

    Args:
        dispatcher: Handle of the lanes' dispatcher.
    """

    def __init__(self, dispatcher: Any) -> None:
        self._dispatcher = dispatcher
        self._over = threading.Event()
        self._stopped = False

    def __getstate__(self) -> dict[str, Any]:
        """Returns no state: Tune pickles its callbacks, but a sweep is resumed from its study."""
        return {}

    def setup(self, *args: Any, **info: Any) -> None:
        """Wraps Tune's handler of Ctrl-C, which Tune has just installed, and which uninstalls itself when called."""
        tunes = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(tunes):
            return

        def stop(number: int, frame: Any) -> None:
            self._stopped = True
            self._over.set()
            tunes(number, frame)

        signal.signal(signal.SIGINT, stop)
        # A thread calls Ray, not the handler, which may run in the middle of another call to Ray.
        threading.Thread(target=self._release, daemon=True).start()

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        self._over.set()

    def _release(self) -> None:
        self._over.wait()
        if self._stopped:
            self._dispatcher.close.remote(0.0)
