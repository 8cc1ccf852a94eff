"""A model in torch in a process of its own, run when asked: its threads, memory and allocator are torch's alone."""

import importlib.util
import multiprocessing
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Self

import numpy as np

from benchmarks.timing import Times, timed


class Rival:
    """Starts the process; `there` is False without torch.

    Args:
        name: of the model, of `benchmarks.torch_models`.
        channels: of its pooled features.
        outputs: of the linear head.
        x: (batch, samples, leads).
        targets: (batch, outputs).
        one_thread: whether torch computes in one.
    """

    def __init__(
        self, name: str, channels: int, outputs: int, x: np.ndarray, targets: np.ndarray, one_thread: bool
    ) -> None:
        self.there = importlib.util.find_spec("torch") is not None
        if self.there:
            context = multiprocessing.get_context("spawn")
            self._here, there = context.Pipe()
            arguments = there, name, channels, outputs, x, targets, one_thread
            self._process = context.Process(target=_serve, args=arguments, daemon=True)
            self._process.start()
            there.close()  # so that the end of the process is the end of the pipe
            self._here.recv()  # it is ready

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.there:
            self._here.close()
            self._process.join()

    def run(self, which: str) -> Times:
        """Runs "features", "frozen" or "finetune" once there."""
        return Times(*self._ask(which))

    def grown(self) -> int:
        """Bytes by which the process's peak memory grew since it had imported torch."""
        return int(self._ask("grown"))

    def _ask(self, what: str) -> Any:
        self._here.send(what)
        return self._here.recv()


def _serve(
    connection: Connection,
    name: str,
    channels: int,
    outputs: int,
    x: np.ndarray,
    targets: np.ndarray,
    one_thread: bool,
) -> None:
    import torch

    from benchmarks.torch_models import MODELS

    if one_thread:
        torch.set_num_threads(1)
    before = _peak()
    programs = _programs(MODELS[name](), torch.nn.Linear(channels, outputs), x, targets)
    connection.send("ready")
    while True:
        try:
            what = connection.recv()
        except EOFError:
            return
        connection.send(_peak() - before if what == "grown" else tuple(timed(programs[what])))


def _programs(encoder: Any, head: Any, x: np.ndarray, targets: np.ndarray) -> dict[str, Callable[[], None]]:
    import torch

    wanted, loss = torch.from_numpy(targets), torch.nn.functional.binary_cross_entropy_with_logits
    signals = torch.from_numpy(np.ascontiguousarray(x.swapaxes(1, 2)))
    every = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], weight_decay=1e-3)
    of_head = torch.optim.AdamW(head.parameters(), weight_decay=1e-3)

    def features() -> None:
        encoder.eval()
        with torch.inference_mode():
            encoder(signals)

    def frozen() -> None:
        encoder.eval()
        with torch.no_grad():
            encoded = encoder(signals)
        of_head.zero_grad()
        loss(head(encoded), wanted).backward()
        of_head.step()

    def finetune() -> None:
        encoder.train()
        every.zero_grad()
        loss(head(encoder(signals)), wanted).backward()
        every.step()

    return {"features": features, "frozen": frozen, "finetune": finetune}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
