"""The plots of the benchmarks' page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecgjax.reporting.style import FAINT, GREY, PALETTE, model_name, place, sheet, style, text_width, wide_enough

PROGRAMS = {"features": "features", "frozen": "frozen step", "finetune": "fine-tuning step"}


def to_torch(found: Mapping[str, Any], path: Path) -> bool:
    """Ratios of ecgjax's time to torch's, a row per model, with quartiles; False where none was compared."""
    names = [name for name, row in found.items() if any("time_to_torch" in row[which] for which in PROGRAMS)]
    if not names:
        return False
    title = "Time of ecgjax over that of torch"
    subtitle = "processor time on one core; median and quartiles of turns; left of 1 ecgjax is faster"
    with style():
        left = 0.2 + text_width([model_name(name) for name in names])
        height = 0.34 * len(names)
        width = wide_enough(left + 5.2, title, subtitle)
        figure = sheet(width, height + 1.5, title, subtitle)
        axes = place(figure, left, 0.9, width - left - 0.3, height)
        axes.axvline(1, color=GREY, linewidth=0.9)
        for i, (which, words) in enumerate(PROGRAMS.items()):
            ratios = [found[name][which].get("time_to_torch", {}).get("cpu") for name in names]
            rows = [(n + (i - 1) * 0.22, ratio) for n, ratio in enumerate(ratios) if ratio]
            axes.hlines(
                [y for y, _ in rows], [r["low"] for _, r in rows], [r["high"] for _, r in rows], color=PALETTE[i]
            )
            axes.plot([r["median"] for _, r in rows], [y for y, _ in rows], "osD"[i], color=PALETTE[i], markersize=4,
                      linestyle="none", label=words)  # fmt: skip
        axes.set_yticks(range(len(names)), [model_name(name) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color=FAINT, linewidth=0.5)
        axes.set_axisbelow(True)
        axes.set_xlabel("time of ecgjax / time of torch")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, borderaxespad=0.2)
        figure.savefig(path, dpi=160)
    return True


def lengths(found: Mapping[str, Any], path: Path) -> bool:
    """Milliseconds and memory of the pretraining update against the tokens of a batch: by length, and by batch."""
    rows = found["rows"]
    least, shortest = min(row["batch"] for row in rows), min(row["seconds"] for row in rows)
    series = {
        f"longer crops, batch {least}": [row for row in rows if row["batch"] == least],
        f"larger batches of {shortest:g} s": [row for row in rows if row["seconds"] == shortest],
    }
    options = found["options"]
    title = "ECG-CPC's pretraining update against the tokens of a batch"
    subtitle = (
        f"width {options['width']}, {options['layers']} layers; median and quartiles of turns; memory by XLA's account"
    )
    with style():
        figure = sheet(wide_enough(6.6, title, subtitle), 3.1, title, subtitle)
        time = place(figure, 0.65, 0.9, 2.4, 1.7)
        memory = place(figure, 3.9, 0.9, 2.4, 1.7)
        for i, (words, points) in enumerate(series.items()):
            tokens = [row["tokens"] * row["batch"] for row in points]
            cpu = [row["ms"]["cpu"] for row in points]
            seconds = [1e-3 * one["median"] for one in cpu]
            time.vlines(
                tokens, [1e-3 * one["low"] for one in cpu], [1e-3 * one["high"] for one in cpu], color=PALETTE[i]
            )
            time.plot(tokens, seconds, marker="os"[i], color=PALETTE[i], markersize=4, linewidth=1, label=words)
            memory.plot(tokens, [row["megabytes"] for row in points], marker="os"[i], color=PALETTE[i], markersize=4,
                        linewidth=1)  # fmt: skip
        for axes, words in ((time, "processor seconds"), (memory, "memory (MB)")):
            axes.set_xlim(left=0)
            axes.set_ylim(bottom=0)
            axes.set_xlabel("tokens of a batch")
            axes.set_ylabel(words)
            axes.grid(color=FAINT, linewidth=0.5)
        time.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, borderaxespad=0.2)
        figure.savefig(path, dpi=160)
    return True
