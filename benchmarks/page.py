"""The page of the benchmarks, docs/benchmarks.md, from their JSON: tables in Markdown and two plots."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import plots
from benchmarks.suite import MODELS, PRETRAINING, SUITE
from ecgjax.atomic import write_text
from ecgjax.reporting import markdown
from ecgjax.reporting.style import model_name

PROGRAMS = {"features": "features", "frozen": "frozen step", "finetune": "fine-tuning step"}
NOT_RUN = "not run"
_BUSY = (
    "; **other work kept the machine busy**: read processor time; elapsed time is longer than on a free machine, and "
    "caches were shared."
)
SUITE_MODELS = [name for name, benchmark in SUITE.items() if benchmark.section == MODELS]

Entries = Mapping[str, Mapping[str, Any]]
Spread = Mapping[str, float]


def write(file: Path) -> list[Path]:
    """Writes the page and its plots beside the JSON, under its name; returns their paths."""
    entries: Entries = json.loads(file.read_text())["entries"]
    page = file.with_suffix(".md")
    pictures = {
        "torch": (plots.to_torch, of_models(entries)),
        "lengths": (plots.lengths, entries.get("pretraining_costs", {}).get("result")),
    }
    written = [page]
    shown = {}
    for name, (draw, found) in pictures.items():
        path = file.with_name(f"{file.stem}_{name}.png")
        if found and draw(found, path):
            written.append(path)
            shown[name] = path.name
        else:
            path.unlink(missing_ok=True)
    parts = [
        _head(entries, file),
        _models(entries, shown),
        _pretraining(entries, shown),
        _parts(entries),
        _runs(entries),
    ]
    write_text(page, "\n\n".join(parts) + "\n")
    return written


def of_models(entries: Entries) -> dict[str, Any]:
    """Results of `benchmarks.models` by the model's name, those that were run."""
    found = {}
    for name, entry in entries.items():
        if name.startswith("models/"):
            found |= entry["result"]["models"]
    return found


def _head(entries: Entries, file: Path) -> str:
    """Where the figures are from, before the figures."""
    machines = dict.fromkeys(
        f"{m['processor']}, {m['cores']} cores, {m['memory_gib']:g} GiB, {m['system']}"
        for m in (entry["machine"] for entry in entries.values())
    )
    versions = dict.fromkeys(f"{name} {version}" for e in entries.values() for name, version in e["versions"].items())
    loads = [load for entry in entries.values() for load in entry["load"]]
    dates = sorted(entry["date"][:10] for entry in entries.values())
    cores = min((entry["machine"]["cores"] for entry in entries.values()), default=0)
    devices = dict.fromkeys(
        str(entry["result"]["device"]) for entry in entries.values() if entry["result"].get("device")
    )
    lines = [
        "# Benchmarks",
        f"Made by `python -m benchmarks` from [{file.name}]({file.name}); do not edit. "
        f"{len(entries)} of {len(SUITE)} benchmarks were run; the others are shown as “{NOT_RUN}”.",
        f"- **Machine**: {'; '.join(machines)}. JAX device: {', '.join(devices)}.",
        f"- **Load**: the load average was {min(loads):g} to {max(loads):g} on {cores} cores when these were measured, "
        f"the benchmark's own included{_BUSY if max(loads) > cores + 1 else '.'}",
        f"- **When**: {dates[0]} to {dates[-1]}. Versions: {', '.join(versions)}.",
        "- Values are medians of repeats in turns, with quartiles in brackets. “CPU” is processor time, “wall” elapsed "
        "time. What exactly each measures is in its `--help`; dates, loads and commands are [at the end](#runs).",
    ]
    return "\n\n".join([*lines[:2], "\n".join(lines[2:])])


def _models(entries: Entries, shown: Mapping[str, str]) -> str:
    found = of_models(entries)
    names = [name.partition("/")[2] for name in SUITE_MODELS]
    batches = {
        str(entry["result"]["options"]["batch"]) for name, entry in entries.items() if name.startswith("models/")
    }
    text = [
        "## Models",
        f"Batch {', '.join(sorted(batches))}, float32, one core and one thread, processor time; records per processor "
        "second. torch runs the same architecture in a process of its own, of torch's own layers, as reference "
        "implementations have them. The ratio is ecgjax's time over torch's: below 1, ecgjax is faster.",
    ]
    if "torch" in shown:
        text.append(f"![Time of ecgjax over that of torch, per model]({shown['torch']})")
    text += [
        _verdict(found),
        "“Share” is of the peak: the rate of a 1,024 x 1,024 float32 product in the same turns. GFLOP are those of the "
        "architecture in its plain form. MB are XLA's account of the program (arguments, temporaries, outputs). "
        "“grown” is how much the process grew by over all three programs, compilation included, beside torch's.",
    ]
    head = ["model", "ms", "torch ms", "ratio", "records/s", "GFLOP", "share", "MB"]
    for which, words in PROGRAMS.items():
        last = which == "finetune"
        rows = []
        for name in names:
            row = found.get(name, {}).get(which)
            cells = [NOT_RUN] if row is None else _of_program(row)
            grown = found.get(name, {}).get("grown_megabytes", {}) if last else {}
            rows.append([model_name(name), *cells, *(_number(size) for size in grown.values())])
        text += [f"### {words.capitalize()}", _table([*head, *(["grown MB", "torch's"] if last else [])], rows)]
    return "\n\n".join(text)


def _of_program(row: Mapping[str, Any]) -> list[str]:
    torch, ratio = NOT_RUN, ""
    if "torch" in row:
        torch, ratio = _spread(row["torch"]["ms"]["cpu"]), _spread(row["time_to_torch"]["cpu"])
    return [
        _spread(row["ecgjax"]["ms"]["cpu"]),
        torch,
        ratio,
        _number(row["ecgjax"]["records_per_second"]["cpu"]["median"]),
        _number(row["gflop"]),
        f"{row['share_of_peak']['cpu']['median']:.0%}",
        _number(row["megabytes"]),
    ]


def _verdict(found: Mapping[str, Any]) -> str:
    """What the tables say of the aim that no model is slower than in torch."""
    compared = [
        (f"{model_name(name)} ({words} {row[which]['time_to_torch']['cpu']['median']:.2f})", row[which])
        for name, row in found.items()
        for which, words in PROGRAMS.items()
        if "time_to_torch" in row[which]
    ]
    if not compared:
        return "No model was compared with torch."
    slower = [words for words, row in compared if row["time_to_torch"]["cpu"]["median"] > 1]
    said = "At this batch, none is slower than torch."
    if slower:
        said = f"Slower than torch: {', '.join(slower)}."
    return f"{len(compared)} of {len(SUITE_MODELS) * len(PROGRAMS)} programs were compared. {said}"


def _pretraining(entries: Entries, shown: Mapping[str, str]) -> str:
    text = [
        "## Pretraining",
        "From a store on disk against the same update on one batch that is cut already (aim: 0.95).",
    ]
    rows = []
    for name in ("pretraining/device", "pretraining/host"):
        placement = name.partition("/")[2]
        if name not in entries:
            rows.append([placement, NOT_RUN])
            continue
        found = entries[name]["result"]
        rates = found["records_per_second"]
        pairs = [_spread(rates[kind][clock]) for clock in ("wall", "cpu") for kind in ("data", "constant")]
        rows.append([placement, *pairs, *(_spread(found["ratio"][clock]) for clock in ("wall", "cpu"))])
    head = ["signals in", "records/s", "pure step", "records per CPU s", "pure step", "ratio, wall", "ratio, CPU"]
    text.append(_table(head, rows))
    costs = entries.get("pretraining_costs", {}).get("result")
    text.append("Cost of ECG-CPC's update against the length of the crops and the batch:")
    if costs is None:
        text.append(NOT_RUN)
    else:
        if "lengths" in shown:
            text.append(f"![Time and memory against tokens of a batch]({shown['lengths']})")
        text.append(f"Width {costs['options']['width']}, {costs['options']['layers']} layers.")
        rows = [
            [f"{r['seconds']:g}", _number(r["tokens"]), str(r["batch"]), _spread(r["ms"]["cpu"]),
             _number(r["ms"]["cpu"]["median"] / r["batch"]), _number(r["gflop_compiled"]), _number(r["megabytes"])]
            for r in costs["rows"]
        ]  # fmt: skip
        text.append(_table(["seconds", "tokens", "batch", "CPU ms", "per record", "GFLOP", "MB"], rows))
    for name, words in (
        ("long_convolution", "S4's convolution in its forms (the choice: `ecgjax.models.long_convolution`)"),
        ("formulations", "Attention, grouped convolutions, batch norm, patches and dropout"),
    ):
        text.append(f"{words}, CPU ms forward and with gradients:")
        found = entries.get(name, {}).get("result")
        if found is None:
            text.append(NOT_RUN)
            continue
        rows = [
            [*row.split("/"), *(_spread(times["cpu_ms"][kind]) for kind in ("forward", "gradients"))]
            for row, times in found["rows"].items()
        ]
        text.append(f"Batch {found['batch']}.")
        text.append(_table(["case", "form", "forward", "with gradients"], rows, 2))
    return "\n\n".join(text)


def _parts(entries: Entries) -> str:
    rows = []
    for name, benchmark in SUITE.items():
        if benchmark.section == MODELS or (benchmark.section == PRETRAINING and name != "cpc_loss"):
            continue
        ratios = entries.get(name, {}).get("result", {}).get("ratios")
        if ratios is None:
            rows.append([f"`{name}`", NOT_RUN])
            continue
        for what, ratio in ratios.items():
            cells = [_spread(ratio[kind]) if kind in ratio else "" for kind in ("cpu", "wall", "memory")]
            rows.append([f"`{name}`", what.replace("|", "/"), *cells])
    text = ["## Other parts", "Ratios of the two that are named, the first over the second."]
    return "\n\n".join([*text, _table(["benchmark", "what", "CPU", "wall", "memory"], rows, 2)])


def _runs(entries: Entries) -> str:
    rows = []
    for entry in entries.values():
        loads = " to ".join(f"{load:g}" for load in entry["load"])
        rows.append([f"`{entry['command']}`", entry["date"][:16].replace("T", " "), _number(entry["seconds"]), loads])
    return "\n\n".join(["## Runs", _table(["command", "UTC", "seconds", "load before, after"], rows)])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """In Markdown; the first columns are words, the others numbers."""
    return "\n".join(markdown.table(head, rows, "l" * words + "r"))


def _number(value: float) -> str:
    """Three digits are all that such figures bear."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _spread(value: Spread) -> str:
    median = _number(value["median"])
    return f"{median} ({_number(value['low'])}–{_number(value['high'])})" if "low" in value else median
