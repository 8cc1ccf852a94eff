"""Reports of run folders that no training made, for tests."""

import json
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from sklearn.metrics import roc_auc_score

from configs.report import get_config
from ecgjax.evaluation.resamples import draw_counts
from ecgjax.jobs import report as job
from ecgjax.reporting import schema
from tests.evaluation.fake_runs import write_run

REPLICATES = 60
STRENGTHS = {"ecg_cpc": 1.2, "ecg_fm": 0.6, "ecg_jepa": 0.6, "s4": 0.3}


def make(folder: Path, config: ConfigDict | None = None, **changes: object) -> dict:
    config = config or get_config()
    small = {"figures": False, "interval.replicates": REPLICATES, "workers": 2}
    config.update_from_flattened_dict({"runs": str(folder / "runs"), **small, **changes})
    job.run(config, folder / "report")
    found = json.loads((folder / "report" / "results.json").read_text())
    schema.validate(found)
    return found


def benchmark(folder: Path, tasks: tuple[str, ...] = ("ptbxl_super", "ptbxl_sub"), **changes: object) -> Path:
    """Four models, s4 from scratch, two tasks, two modes."""
    for model, strength in STRENGTHS.items():
        for mode in ("scratch",) if model == "s4" else ("finetune", "linear"):
            for task in tasks:
                run = folder / "runs" / model / task / mode
                write_run(run, model, task, mode, strength=strength - 0.2 * (mode == "linear"), **changes)
    return folder


def predictions(folder: Path, run: str) -> dict[str, np.ndarray]:
    with np.load(folder / run / "predictions.npz") as file:
        return {name: file[name] for name in file.files}


def brute_force(folder: Path, runs: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Macro AUROC of each run and its replicates, by scikit-learn on repeated records."""
    counts = draw_counts(60, REPLICATES, 0)
    values, samples = [], []
    for run in runs:
        arrays = predictions(folder, run)
        targets, scores = arrays["targets"], arrays["scores"]
        values.append(roc_auc_score(targets, scores))
        replicate = []
        for count in counts:
            rows = np.repeat(np.arange(60), count)
            t, s = targets[rows], scores[rows]
            defined = [c for c in range(3) if 0 < t[:, c].sum() < len(t)]
            replicate.append(np.mean([roc_auc_score(t[:, c], s[:, c]) for c in defined]))
        samples.append(replicate)
    return np.array(values), np.array(samples)
