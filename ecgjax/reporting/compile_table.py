"""The table of a compile check, line by line, as compiling takes its time; and finished ones for a page.

python -m ecgjax.reporting.compile_table [--largest] docs/compile_checks/*.json > page.md

`--largest`: one table of the largest batches of all of them.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ecgjax.compilation.targets import Target
from ecgjax.reporting.markdown import table

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
        f"**{content['topology']}**: {content['devices']} of {chip['name']}, batch of {content['batch_size']:,} over "
        f"all of them, {_setting(content)}; {versions}.",
        "",
    ]
    lists = []
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
        lists.append(cells)
    return "\n".join([*lines, *table(names, lists, "lrrrrrlrlr")]) + "\n"


def largest(contents: Sequence[dict[str, Any]]) -> str:
    """The largest batches of several checks as one Markdown table; a batch that needs no search is not in it.

    Args:
        contents: of compile_check.json files that were made with `config.largest`.
    """
    columns = [
        (f"{content['chip']['name']}, {_setting(content)}", {row["name"]: row for row in content["programs"]})
        for content in contents
        if any("largest_batch" in row for row in content["programs"])
    ]
    names = list(dict.fromkeys(name for _, rows in columns for name in rows if "largest_batch" in rows[name]))
    lists = []
    for name in names:
        found = [rows.get(name, {}).get("largest_batch") for _, rows in columns]
        lists.append([name, *("-" if value is None else f"{value:,}" for value in found)])
    return "\n".join(table(["largest batch on one chip", *(head for head, _ in columns)], lists)) + "\n"


def _setting(content: dict[str, Any]) -> str:
    parts = [content["dtype"]]
    if content.get("remat"):
        parts.append("blocks computed again")
    if content.get("effort") and content["topology"][0] == "v":
        parts.append(f"effort {content['effort']:g}")
    return ", ".join(parts)


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
    parser.add_argument("--largest", action="store_true", help="one table of the largest batches")
    options = parser.parse_args()
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in options.files]
    for text in [largest(contents)] if options.largest else map(markdown, contents):
        print(text)


if __name__ == "__main__":
    main()
