from collections.abc import Iterator
from pathlib import Path

import pytest

from ecgjax.data.download.client import Client
from tests.data.download.server import Clock, Server


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(server: Server, clock: Clock) -> Client:
    return Client(server.mirrors, wait=clock.wait, clock=clock.now, draw=lambda: 0.0)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"
