from pathlib import Path


def write(file: Path) -> list[Path]:
    raise NotImplementedError
