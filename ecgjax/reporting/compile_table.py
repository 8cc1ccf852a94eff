"""The table of a compile check, line by line, as compiling takes its time; and finished ones for a page.

python -m ecgjax.reporting.compile_table runs/v5e/compile_check.json [...] >> page.md
"""

import argparse
import json
from pathlib import Path
from typing import Any

from ecgjax.compilation.targets import Target

_WIDTHS = (22, 10, 10, 9, 9, 10, 9, 8)
_NAMES = ("program", "GFLOP", "MB moved", "argum. MB", "temp. MB", "at least", "limit", "CPU s")


def heading(target: Target, devices: int, batch_size: int, dtype: str) -> str:
    """What the table is of, and its columns."""
    chip = target.chip
    peak = chip.bfloat16 if dtype == "bfloat16" else chip.float32
    return (
        f"{target.name}: {devices} of {chip.name}, {chip.memory / 2**30:.0f} GiB, {peak / 1e12:.3g} TFLOP/s {dtype}, "
        f"{chip.bandwidth / 1e9:,.0f} GB/s ({chip.source})\n"
        f"Per device, at a batch of {batch_size} over all of them; estimates of the compiler, loops counted once.\n\n"
        + _row(_NAMES)
        + ("  a step" if target.local else "")
        + "  collectives"
    )


def line(row: dict[str, Any]) -> str:
    """One program: a row of compile_check.json."""
    if row["error"]:
        return f"{row['name']:{_WIDTHS[0]}}  {row['error']}"
    cells = (
        row["name"],
        *(_scaled(row[key], unit) for key, unit in (("flops", 1e9), ("bytes", 1e6))),
        *(_scaled(row[key], 1e6) for key in ("arguments", "temporaries")),
        "-" if row["bound"] is None else duration(row["bound"]),
        row["limit"] or "-",
        f"{row['processor_seconds']:.1f}",
    )
    text = _row(cells) + (f"  {duration(row['measured'])}" if row["measured"] is not None else "")
    text += "  " + _collectives(row)
    if "largest_batch" in row:
        text += f"  largest batch on one chip {row['largest_batch']:,}"
    return text if row["fits"] else f"{text}  DOES NOT FIT"


def markdown(content: dict[str, Any]) -> str:
    """A finished check as a Markdown table with a caption.

    Args:
        content: of compile_check.json.
    """
    chip = content["chip"]
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items() if version)
    names = ["program", "GFLOP", "MB moved", "memory, MB", "of the chip's", "at least", "limit", "CPU s", "collectives"]
    rows = content["programs"]
    with_largest = any("largest_batch" in row for row in rows)
    names += ["largest batch on one chip"] * with_largest
    lines = [
        f"**{content['topology']}**: {content['devices']} of {chip['name']}, batch of {content['batch_size']} over all "
        f"of them, {content['dtype']}; {versions}.",
        "",
        "| " + " | ".join(names) + " |",
        "|---" + "|---:" * 4 + "|---:|---|---:|---|" + "---:|" * with_largest,
    ]
    for row in rows:
        if row["error"]:
            cells = [row["name"], row["error"], *[""] * 5, f"{row['processor_seconds']:.0f}", ""]
        else:
            cells = [
                row["name"],
                _scaled(row["flops"], 1e9),
                _scaled(row["bytes"], 1e6),
                _scaled(row["memory"], 1e6),
                f"{row['memory'] / chip['memory']:.0%}" if chip["memory"] else "-",
                "-" if row["bound"] is None else duration(row["bound"]),
                row["limit"] or "-",
                f"{row['processor_seconds']:.0f}",
                _collectives(row),
            ]
        cells += [f"{row['largest_batch']:,}" if "largest_batch" in row else ""] * with_largest
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def duration(seconds: float) -> str:
    """Three digits with a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def _row(cells: tuple[str, ...]) -> str:
    first, *others = cells
    return f"{first:{_WIDTHS[0]}}  " + "  ".join(
        f"{cell:>{width}}" for cell, width in zip(others, _WIDTHS[1:], strict=True)
    )


def _scaled(value: float | None, unit: float) -> str:
    return "-" if value is None else f"{value / unit:,.1f}" if value < 10 * unit else f"{value / unit:,.0f}"


def _collectives(row: dict[str, Any]) -> str:
    return ", ".join(f"{count} {name}" for name, count in row["collectives"].items()) or "none"


def main() -> None:
    """Prints the tables of finished checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    for path in parser.parse_args().files:
        print(markdown(json.loads(path.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
