"""Many files at once, with errors gathered and a clean end on Ctrl-C."""

import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from ecgjax.data.download.client import Client, StoppedError
from ecgjax.errors import UserError

_SECONDS_TO_END = 1.0
_MOST_FAILURES = 5  # Then the server, the disk or the list is at fault, not a file.

Item = TypeVar("Item")


def run(client: Client, items: Iterable[Item], work: Callable[[Item], None], threads: int) -> None:
    """Calls `work` for each item in daemon threads; a failure of one lets the others go on.

    Raises:
        UserError: some failed; the message is the first one's, and says how many more there were.
    """
    waiting, lock = iter(items), threading.Lock()
    errors: list[BaseException] = []

    def worker() -> None:
        while len(errors) < _MOST_FAILURES:
            with lock:
                item = next(waiting, None)
            if item is None:
                return
            try:
                client.check()
                work(item)
            except StoppedError:
                return
            except Exception as error:
                errors.append(error)
                if not isinstance(error, UserError):
                    return

    # Daemons: a thread that waits for a dead server must not keep the program from ending.
    pool = [threading.Thread(target=worker, daemon=True, name=f"download-{i}") for i in range(threads)]
    for thread in pool:
        thread.start()
    try:
        while any(thread.is_alive() for thread in pool):
            for thread in pool:
                thread.join(timeout=0.1)
    except BaseException:
        client.stop()
        patience = time.monotonic() + _SECONDS_TO_END
        for thread in pool:
            thread.join(timeout=max(0.0, patience - time.monotonic()))
        raise
    unforeseen = next((error for error in errors if not isinstance(error, UserError)), None)
    if unforeseen is not None:
        raise unforeseen
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise UserError(f"{errors[0]}{more}") from errors[0]
