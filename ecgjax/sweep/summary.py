"""summary.json of a finished cell: the few numbers of its results.json that a sweep shows, quick to read.

values      task -> metric -> value, low, high
validation  score of the checkpoint that was tested
seconds     of the whole cell in this process
measured    device, windows_per_second (training, compilation included); null if the cell was resumed
"""

import json
from pathlib import Path
from typing import Any

from ecgjax import atomic

FILE, DONE = "summary.json", "DONE"


def finished(folder: Path) -> bool:
    """Whether a cell's directory holds a whole result."""
    return (folder / DONE).exists()


def write(folder: Path, seconds: float | None, device: str | None) -> dict[str, Any]:
    """Writes summary.json from results.json; returns its content.

    Args:
        folder: of a finished cell.
        seconds: it took from start to end; None if it is not known, or it was resumed.
        device: kind of device it ran on.
    """
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    values = {
        task: {
            metric: {key: found[metric][key] for key in ("value", "low", "high")}
            for metric in ("auroc", "mae")
            if metric in found
        }
        for task, found in results["tasks"].items()
    }
    summary: dict[str, Any] = {"values": values, "validation": results["best"]["score"], "seconds": seconds}
    summary["measured"] = None
    training = results["seconds"]["training"]
    # What an exact probe takes does not grow with windows alone.
    if seconds is not None and training and "strength" not in results["best"]:
        steps = results["records"]["train"] // config["batch_size"] * config["epochs"]
        rate = steps * config["batch_size"] / training
        key = {"model": results["model"], "arguments": results["arguments"], "mode": results["mode"]}
        summary["measured"] = {**key, "device": device, "windows_per_second": round(rate, 2)}
    atomic.write_json(folder / FILE, summary)
    return summary


def read(folder: Path) -> dict[str, Any]:
    """Content of a finished cell's summary.json; made from results.json where a kill came before it was written."""
    try:
        return json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return write(folder, None, None)
