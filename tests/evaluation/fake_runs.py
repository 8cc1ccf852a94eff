"""Run folders as evaluate leaves them, without training: written with json and numpy, not with what reads them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

LABELS = ("SR", "AFIB", "STACH", "age")
KINDS = ("classification",) * 3 + ("regression",)


def draw(
    strength: float, seed: int = 0, records: int = 60, labels: int = 3, with_age: bool = False
) -> dict[str, np.ndarray]:
    """Predictions of a model that knows the targets with a given strength; targets are the same for all seeds."""
    shared, own = np.random.default_rng(99), np.random.default_rng(seed)
    targets = (shared.random((records, labels)) < np.linspace(0.5, 0.15, labels)).astype(np.float32)
    targets[0], targets[1] = 1, 0
    scores = 1 / (1 + np.exp(-(strength * (2 * targets - 1) + own.standard_normal(targets.shape))))
    names = [LABELS[k] if k < 3 else f"L{k}" for k in range(labels)]
    kinds = ["classification"] * labels
    if with_age:
        age = shared.standard_normal((records, 1))
        scores = np.hstack([scores, age + own.standard_normal(age.shape) / strength])
        targets, names, kinds = np.hstack([targets, age]), [*names, "age"], [*kinds, "regression"]
    return {
        "record_id": np.array([f"r{k:05d}" for k in range(records)]),
        "patient_id": np.array([f"p{k // 2:05d}" for k in range(records)]),
        "targets": targets.astype(np.float32),
        "scores": scores.astype(np.float32),
        "labels": np.array(names),
        "kinds": np.array(kinds),
    }


def write_run(
    path: Path,
    model: str = "ecg_cpc",
    task: str = "ptbxl_super",
    mode: str = "finetune",
    *,
    strength: float = 1.0,
    seed: int = 0,
    weights: str | None = "w" * 64,
    fingerprint: str = "f" * 64,
    protocol: str = "fixed",
    done: bool = True,
    arrays: dict[str, np.ndarray] | None = None,
    tasks: dict[str, list[str]] | None = None,
    config: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """A finished run.

    Args:
        path: its folder.
        model: registry name.
        task: head run and task.
        mode: of training.
        strength: of the model, see `draw`.
        seed: of the run and its predictions.
        weights: SHA-256.
        fingerprint: of the data.
        protocol: "fixed" or "paper".
        done: whether DONE is there.
        arrays: predictions instead of drawn ones.
        tasks: task -> labels; None is one task with all.
        config: further fields of config.json.
        **changes: fields of results.json.
    """
    path.mkdir(parents=True, exist_ok=True)
    arrays = draw(strength, seed=hash_of(model, mode, seed)) if arrays is None else arrays
    absent = {"fixed": "skip", "paper": "half"}[protocol]
    results = {
        "format": 1,
        "model": model,
        "arguments": {},
        "weights": None if mode == "scratch" else weights,
        "seen": None,
        "task": task,
        "run": task,
        "mode": mode,
        "protocol": protocol,
        "absent": absent,
        "seed": seed,
        "ecgjax": "0.1",
        "data": {
            "source": "ptbxl",
            "fingerprint": fingerprint,
            "label_set": "super",
            "sampling_rate": 500.0,
            "synthetic": False,
        },
        "records": {"train": 100, "validation": 20, "test": len(arrays["record_id"])},
        "left_out": {"train": 0, "validation": 0, "test": 0},
        "windows": 4 * len(arrays["record_id"]),
        "non_finite_windows": 0,
        "parameters": {"trained": 1000, "total": 2000},
        "seconds": {"training": 10.5, "testing": 1.25},
        "best": {"epoch": 3, "score": 0.9, "criterion": "macro_auroc"},
        "interval": {"kind": "percentile", "level": 0.95, "replicates": 10, "unit": "record", "seed": seed},
        "tasks": summaries(arrays, tasks or {task: arrays["labels"].tolist()}, absent),
        **changes,
    }
    full = {
        "job": "evaluate",
        "model": model,
        "task": task,
        "mode": mode,
        "epochs": 100,
        "seed": seed,
        **(config or {}),
    }
    environment = {
        "versions": {"ecgjax": "0.1", "jax": "0.10.2"},
        "devices": ["NVIDIA A100", "NVIDIA A100"],
        "revision": None,
        "data": {"fingerprint": fingerprint},
    }
    for name, content in (("config", full), ("results", results), ("environment", environment)):
        (path / f"{name}.json").write_text(json.dumps(content))
    np.savez(path / "predictions.npz", **arrays)
    if done:
        (path / "DONE").write_text("")
    return path


def summaries(arrays: dict[str, np.ndarray], tasks: dict[str, list[str]], absent: str) -> dict[str, Any]:
    """Tasks of results.json; values by scikit-learn, limits left out."""
    names, result = arrays["labels"].tolist(), {}
    for task, labels in tasks.items():
        entry: dict[str, Any] = {"row": None, "category": "other"}
        for metric, kind in (("auroc", "classification"), ("mae", "regression")):
            columns = [names.index(label) for label in labels if arrays["kinds"][names.index(label)] == kind]
            if columns:
                targets, scores = arrays["targets"][:, columns], arrays["scores"][:, columns]
                value, each = overall(targets, scores, metric, absent)
                by_label = dict(zip([names[i] for i in columns], each, strict=True))
                entry[metric] = {"value": value, "low": None, "high": None, "defined": len(columns)}
                entry[metric]["labels"] = {name: {"value": number} for name, number in by_label.items()}
        result[task] = entry
    return result


def overall(
    targets: np.ndarray, scores: np.ndarray, metric: str, absent: str
) -> tuple[float | None, list[float | None]]:
    """Macro AUROC or pooled error, and each label's."""
    if metric == "mae":
        errors = np.abs(scores - targets)
        return float(np.nanmean(errors)), [None if e != e else e for e in np.nanmean(errors, axis=0).tolist()]
    each: list[float | None] = []
    for target, score in zip(targets.T, scores.T, strict=True):
        known = ~np.isnan(target)
        both = len(set(target[known].tolist())) == 2
        each.append(float(roc_auc_score(target[known], score[known])) if both else None)
    counted = [0.5 if value is None else value for value in each if value is not None or absent == "half"]
    return (float(np.mean(counted)) if counted else None), each


def hash_of(*parts: Any) -> int:
    """The same number in every process."""
    return sum((i + 1) * ord(c) for i, c in enumerate(repr(parts)))
