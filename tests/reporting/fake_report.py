"""A made-up report of the whole benchmark, for tests of figures, tables and the page: no run, no file, one seed."""

from typing import Any

import numpy as np

from ecgjax import tasks
from ecgjax.evaluation.multiplicity import holm_pairs
from ecgjax.evaluation.published import published
from ecgjax.evaluation.ranks import aggregate, ranks
from ecgjax.reporting import schema
from ecgjax.seen import INCOMPLETE, SEEN

MODELS = ("ecg_cpc", "ecg_fm", "ecg_founder", "ecg_jepa", "ecgfm_ked", "hubert_ecg", "merl_resnet", "st_mem")
SCRATCH = ("net1d", "s4")
_SOURCES = {"code15_diag": "code15", "ptbxl_super": "ptbxl", "ptbxl_sub": "ptbxl", "ptbxl_all": "ptbxl"}


def fake_report(most_labels: int = 40, seed: int = 0) -> dict[str, Any]:
    """10 models x 28 tasks; eight in modes finetune, frozen and linear, two from scratch: 728 rows and two of seeds.

    Args:
        most_labels: labels of a task that are made up; the benchmark's largest task has 918.
        seed: of the noise.
    """
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    runs: dict[str, Any] = {}
    values = published().set_index(["task", "model", "mode"])["value"]
    reported = [task for task in tasks.reported() if task.row]
    modes = {**dict.fromkeys(MODELS, ("finetune", "frozen", "linear")), **dict.fromkeys(SCRATCH, ("scratch",))}
    for task in reported:
        for model, used in modes.items():
            for mode in used:
                value = float(values[task.name, model, mode]) + 0.01 * rng.standard_normal()
                rows.append(_row(task, model, mode, value, runs, most_labels, rng))
    # One cell was run twice: the mean is compared, the seeds stand beside it.
    mean = next(
        row for row in rows if (row["task"], row["model"], row["mode"]) == ("ptbxl_super", "ecg_cpc", "finetune")
    )
    for k, shift in enumerate((-0.002, 0.002)):
        run = f"{mean['run']}_seed{k}"
        runs[run] = {**runs[mean["run"]], "path": run, "seed": k}
        shifted = {key: mean[key] + shift for key in ("value", "low", "high")}
        rows.append({**mean, **shifted, "role": "seed", "seeds": [k], "run": run, "runs": [run]})
    del runs[mean["run"]]
    spread = {"min": mean["value"] - 0.002, "max": mean["value"] + 0.002, "sd": 0.0028}
    mean.update(role="mean", seeds=[0, 1], run=None, runs=[row["run"] for row in rows[-2:]], spread=spread)
    pairs = [_pair(task, mode, rows, rng) for task in reported for mode in ("finetune", "frozen", "linear")]
    categories = dict.fromkeys(task.category for task in reported)
    report = {
        "format": schema.FORMAT,
        "kind": schema.KIND,
        "ecgjax": "0.0.0",
        "sources": ["runs"],
        "settings": {
            "level": 0.95,
            "replicates": 10_000,
            "kind": "percentile",
            "absent": {"fixed": "skip"},
            "unit": "record",
            "seed": 0,
            "multiplicity": "holm",
            "rank_rule": "groups",
            "numbering": "dense",
            "aggregation": "median",
        },
        "rows": rows,
        "pairs": pairs,
        "ranks": [
            _ranks(category, mode, pairs) for category in categories for mode in ("finetune", "frozen", "linear")
        ],
        "runs": runs,
        "label_efficiency": [],
        "similarity": [],
        "probes": [],
        "curves": [_curve(row, rng) for row in rows if row["task"] == "ptbxl_super" and row["mode"] == "finetune"],
        "paper": None,
        "excluded": [
            {"path": "runs/broken", "reason": "results.json is not readable as JSON"},
            {"path": "runs/unfinished", "reason": "unfinished: no DONE"},
        ],
        "notes": ["These numbers are made up."],
    }
    schema.validate(report)
    return report


def _row(
    task: tasks.Task, model: str, mode: str, value: float, runs: dict[str, Any], most_labels: int, rng: Any
) -> dict[str, Any]:
    metric, classes = task.metric or "auroc", task.classes or 1
    source = _SOURCES.get(task.run, task.run)
    run = f"runs/{model}/{task.run}/{mode}"
    versions = {"ecgjax": "0.0.0", "python": "3.11.9", "jax": "0.10.2"}
    environment = {"versions": versions, "devices": ["NVIDIA A100-SXM4-80GB"], "revision": None}
    config = {"job": "evaluate", "model": model, "task": task.run, "mode": mode, "epochs": 100, "seed": 0}
    runs.setdefault(run, {"path": run, "seed": 0, "config": config, "environment": environment})
    width = 0.01 + 0.2 / classes
    names = [f"{task.name[:12]}_{k}" for k in range(min(classes, most_labels))]
    labels = {name: _label(value, metric, k, rng) for k, name in enumerate(names)}
    undefined = [name for name, label in labels.items() if label["value"] is None]
    seen = None if mode == "scratch" or (model in INCOMPLETE and source not in SEEN[model]) else source in SEEN[model]
    return {
        "task": task.name,
        "row": task.row,
        "category": task.category,
        "model": model,
        "mode": mode,
        "protocol": "fixed",
        "absent": "skip",
        "metric": metric,
        "value": value,
        "low": value - width,
        "high": value + 0.8 * width,
        "delong": {"se": width / 2, "low": value - 0.9 * width, "high": value + 0.9 * width}
        if metric == "auroc"
        else None,
        "role": "single",
        "seeds": [0],
        "spread": None,
        "comparison": None,
        "rank": None,
        "best": False,
        "tied": False,
        "ranks": {},
        "records": 2200,
        "patients": None,
        "classes": classes,
        "defined": classes - len(undefined),
        "undefined": undefined,
        "seconds": {"train": 3600.5, "test": 12.25},
        "device": "NVIDIA A100-SXM4-80GB",
        "devices": 1,
        "device_seconds": 3612.75,
        "parameters": {"trained": 3_800_000, "total": 3_800_000},
        "weights": None if mode == "scratch" else f"{MODELS.index(model):064x}",
        "arguments": {},
        "data": {
            "source": source,
            "fingerprint": "f" * 64,
            "label_set": "all",
            "sampling_rate": 500.0,
            "synthetic": False,
        },
        "seen": seen,
        "run": run,
        "runs": [run],
        "population": "0" * 64,
        "cells": [],
        "labels": labels,
    }


def _label(value: float, metric: str, k: int, rng: Any) -> dict[str, Any]:
    if k == 7:  # a label without a positive
        return {"value": None, "low": None, "high": None, "known": 2200, "positives": 0}
    own = float(np.clip(value + 0.08 * rng.standard_normal(), 0.01, 1.0 if metric == "auroc" else 2.0))
    positives = None if metric == "mae" else int(2 + 800 / (k + 1))
    high = min(own + 0.03, 1.0) if metric == "auroc" else own + 0.03
    return {"value": own, "low": own - 0.04, "high": high, "known": 2200, "positives": positives}


def _pair(task: tasks.Task, mode: str, rows: list[dict[str, Any]], rng: Any) -> dict[str, Any]:
    chosen = [
        i
        for i, row in enumerate(rows)
        if row["task"] == task.name and row["mode"] in (mode, "scratch") and row["role"] != "seed"
    ]
    value = np.array([rows[i]["value"] for i in chosen])
    difference = value[:, None] - value[None]
    error = 0.003 + 0.001 * rng.random(difference.shape)
    error = (error + error.T) / 2
    p = np.clip(np.exp(-np.abs(difference) / error), 0.0002, 1.0)
    adjusted = holm_pairs(p)
    significant = adjusted < 0.05
    higher = schema.HIGHER_IS_BETTER[task.metric or "auroc"]
    rank = ranks(value, significant, higher_is_better=higher)
    best = chosen[int(np.argmax(value if higher else -value))]
    for i, own in zip(chosen, rank, strict=True):
        tied = bool((rank == own).sum() > 1)
        rows[i]["ranks"][mode] = {"rank": float(own), "best": i == best, "tied": tied}
        if rows[i]["comparison"] is None:
            rows[i].update(comparison=mode, rank=float(own), best=i == best, tied=tied)
    return {
        "task": task.name,
        "row": task.row,
        "category": task.category,
        "mode": mode,
        "protocol": "fixed",
        "metric": task.metric,
        "higher_is_better": higher,
        "models": [rows[i]["model"] for i in chosen],
        "rows": chosen,
        "rank": rank.tolist(),
        "difference": difference.tolist(),
        "low": (difference - 1.96 * error).tolist(),
        "high": (difference + 1.96 * error).tolist(),
        "p": p.tolist(),
        "adjusted": adjusted.tolist(),
        "significant": significant.tolist(),
        "delong_se": error.tolist() if task.metric == "auroc" else None,
        "delong_p": np.clip(1.1 * p, 0, 1).tolist() if task.metric == "auroc" else None,
    }


def _ranks(category: str, mode: str, pairs: list[dict[str, Any]]) -> dict[str, Any]:
    chosen = [pair for pair in pairs if pair["category"] == category and pair["mode"] == mode]
    rank, mean = aggregate([pair["rank"] for pair in chosen])
    return {
        "category": category,
        "mode": mode,
        "protocol": "fixed",
        "models": chosen[0]["models"],
        "tasks": [pair["task"] for pair in chosen],
        "rank": rank.tolist(),
        "mean": mean.tolist(),
    }


def _curve(row: dict[str, Any], rng: Any) -> dict[str, Any]:
    fpr = np.linspace(0, 1, 21)
    predicted = np.linspace(0.05, 0.95, 10)
    observed = np.clip(predicted**1.2 + 0.02 * rng.standard_normal(10), 0, 1)
    return {
        **{key: row[key] for key in ("task", "model", "mode", "protocol", "seeds")},
        "label": "NORM",
        "positives": 900,
        "known": 2200,
        "roc": {"fpr": fpr.tolist(), "tpr": (fpr ** (1 / row["value"] - 1)).tolist()},
        "calibration": {
            "predicted": predicted.tolist(),
            "observed": observed.tolist(),
            "low": np.clip(observed - 0.05, 0, 1).tolist(),
            "high": np.clip(observed + 0.05, 0, 1).tolist(),
            "count": [220] * 10,
        },
    }
