"""The projection of `benchmarks.projection` as a Markdown page."""

from collections.abc import Mapping
from typing import Any

from ecgjax.reporting.markdown import table
from ecgjax.reporting.style import model_name

_HEAD = """# What the benchmark would cost on accelerators

Made by `python -m benchmarks.projection --page=docs/projection.md` from the compile checks in `docs/compile_checks`;
do not edit. **Nothing here was run on a TPU or GPU.** A program's time is the least that its FLOPs and bytes, as the
compiler counts them, need on the chip, over an assumed efficiency of {efficiency:.0%}. At half the efficiency all hours
double; the ratios stay.

The table is that of the paper: {models} models, 14 trainings of 100 epochs each, pretrained models fine-tuned, frozen
and linear. *One by one* is what the benchmark's code does: every training passes every batch and, each epoch, the
validation windows through the encoder. *Shared* trains linear and frozen heads of all tasks of a data set together.
Of MIMIC-IV-ECG the 184,720 records from the emergency department count, which its cohort is at most."""


def markdown(found: Mapping[str, Any]) -> str:
    """The page; `found` is of `benchmarks.projection.project`."""
    models = max((len(part["models"]) for part in found["slices"]), default=0)
    parts = [_HEAD.format(efficiency=found["efficiency"], models=models)]
    parts += [_slice(part) for part in found["slices"]]
    if found["slices"]:
        parts.append(_growth(found["slices"][0]))
    if found["pretraining"]:
        parts.append(_pretraining(found["pretraining"]))
    return "\n\n".join(parts) + "\n"


def _slice(part: Mapping[str, Any]) -> str:
    rows = [
        [model_name(model), _hours(own["finetune"]), _hours(own["one_by_one"]), _hours(own["shared"])]
        for model, own in part["models"].items()
    ]
    total = part["records"]["1"]
    rows.append(["**all**", *(f"**{_hours(total[key])}**" for key in ("finetune", "one_by_one", "shared"))])
    naive, shared = total["finetune"] + total["one_by_one"], total["finetune"] + total["shared"]
    text = (
        f"One by one {_hours(naive)} chip-hours, shared {_hours(shared)}: {naive / max(shared, 1e-9):.2f} times less. "
        f"{_chips(part['chips'])}: {_hours(naive / part['chips'])} and {_hours(shared / part['chips'])} hours."
    )
    if part["missing"]:
        text += f" Left out, as the compile check lacks them: {', '.join(map(model_name, part['missing']))}."
    versions = ", ".join(f"{name} {version}" for name, version in part["versions"].items() if version)
    return "\n\n".join(
        [
            f"## {part['chip']}, {part['dtype']}",
            _table(["chip-hours", "fine-tuning", "frozen and linear, one by one", "shared"], rows),
            text,
            f"Compiled for {part['topology']} by {versions}{_effort(part)}.",
        ]
    )


def _growth(part: Mapping[str, Any]) -> str:
    rows = []
    for words, key in (("records", "records"), ("seeds", "seeds")):
        for scale, total in part[key].items():
            naive, shared = total["finetune"] + total["one_by_one"], total["finetune"] + total["shared"]
            cells = [_hours(total[key]) for key in ("finetune", "one_by_one", "shared")]
            rows.append([f"{scale} times the {words}", *cells, f"{naive / max(shared, 1e-9):.2f}"])
    mean = {key: part["records"]["1"][key] / max(len(part["models"]), 1) for key in ("one_by_one", "shared")}
    return "\n\n".join(
        [
            f"## How it grows ({part['chip']})",
            _table(["", "fine-tuning", "frozen and linear, one by one", "shared", "all: one by one / shared"], rows),
            "Everything is linear in records. More seeds, learning rates or shares of the labels cost a frozen encoder "
            "nothing until a program has 48 heads, while one by one each costs as much again. Another model adds on "
            f"average {_hours(mean['one_by_one'])} chip-hours of frozen and linear training one by one, and "
            f"{_hours(mean['shared'])} shared, beside its fine-tuning.",
        ]
    )


def _pretraining(found: list[Mapping[str, Any]]) -> str:
    rows = [
        [
            f"{own['devices']} of {own['chip']}",
            own["dtype"],
            f"{own['batch_size']:,}",
            f"{own['step_ms']:.2f}",
            own["limit"] or "-",
            f"{own['all_reduce_ms']:.2f}",
            f"{own['days']:.2f}",
        ]
        for own in found
    ]
    # The GPU's count: a TPU's Fourier transforms are matrix products, with more arithmetic.
    like = next((own for own in found if own["topology"].startswith("h")), found[0])
    return "\n\n".join(
        [
            "## ECG-CPC's pretraining",
            "The authors report three weeks on one L40 for 10.7 million ECGs at a batch of 64; our configuration has "
            f"200 epochs. Our program for {like['chip']} needs {like['gflop_per_record']:.1f} GFLOP for each crop of "
            f"10 s, so if all epochs were run the L40 worked at {like['l40_share']:.0%} of its float32 peak (90.5 "
            "TFLOP/s). The same number of crops:",
            _table(
                ["chips", "activations", "batch", "step, ms", "limit", "all-reduce, ms", "days for 200 epochs"], rows
            ),
            "The all-reduce of the gradients is not in the step: arithmetic on 200 GB/s between v5e chips, without "
            "latency; nor is what it takes to start a step, which no compiler states." + _of_64(found),
        ]
    )


def _of_64(found: list[Mapping[str, Any]]) -> str:
    """What 64 chips gain from a larger batch than the recipe's."""
    by_batch = {own["batch_size"]: own for own in found if own["devices"] == 64}
    if 64 not in by_batch or len(by_batch) < 2:
        return ""
    small, large = by_batch[64], by_batch[max(by_batch)]
    ratio = small["step_ms"] / large["step_ms"] * large["batch_size"] / 64
    return (
        f" On 64 chips the recipe's batch leaves one crop to each: a crop then takes {ratio:.1f} times the chip time "
        f"that it takes at a batch of {large['batch_size']:,}, as weights and kernels are read and made for each "
        f"anew. What limits both steps is {small['limit']}. A larger batch needs another learning rate; whether "
        "the model is as good then was not tried."
    )


def _effort(part: Mapping[str, Any]) -> str:
    """At how much of the compiler's effort; only a TPU's has a choice."""
    effort = 0 if part["topology"].startswith("h") else part.get("effort")
    return f", at effort {effort:g} ([what that means](compile_check.md))" if effort else ""


def _chips(count: int) -> str:
    return "On one" if count == 1 else f"On {count}"


def _hours(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(table(head, rows))
