"""Genuine files that may not be committed: in the folder ECGJAX_WILD, or in the ecgprocess package (GPL)."""

import importlib.util
import os
from pathlib import Path

import pytest


def wild_file(name: str) -> Path:
    """The file of that name anywhere below the folders; skips the test if there is none."""
    folders = [Path(os.environ["ECGJAX_WILD"])] if os.environ.get("ECGJAX_WILD") else []
    package = importlib.util.find_spec("ecgprocess")
    if package is not None and package.origin:
        folders.append(Path(package.origin).parent)
    for folder in folders:
        for path in sorted(folder.rglob(name)):
            return path
    pytest.skip(f"no {name}: install ecgprocess, or set ECGJAX_WILD to a folder that holds it")
