"""The table of a compile check, line by line, as compiling takes its time."""

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
    text += "  " + (", ".join(f"{count} {name}" for name, count in row["collectives"].items()) or "none")
    if "largest_batch" in row:
        text += f"  largest batch on one chip {row['largest_batch']:,}"
    return text if row["fits"] else f"{text}  DOES NOT FIT"


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
