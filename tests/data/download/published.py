"""A small and a large file, as a publisher describes them."""

import hashlib
from pathlib import Path

import numpy as np

from ecgjax.data.download.remote_file import RemoteFile

URL = "https://zenodo.org/file.bin"
SMALL = bytes(np.random.default_rng(0).integers(0, 256, 5_000, dtype=np.uint8))
LARGE = bytes(np.random.default_rng(1).integers(0, 256, 3_000_000, dtype=np.uint8))


def published(content: bytes, url: str = URL) -> RemoteFile:
    return RemoteFile(url, "file.bin", len(content), f"sha256:{hashlib.sha256(content).hexdigest()}")


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "file.bin")
