"""What the tests of the job "evaluate" share: a small config, and what a run leaves behind."""

import json

import numpy as np

from configs.evaluate import get_config

STEPS = 64 // 16  # per epoch: eight training folds of eight records


def make_config(store, model="tiny", mode="linear", labels="labels", **changes):
    config = get_config(f"model={model},task=synthetic,mode={mode}")
    small = {"data.store": str(store), "data.labels": labels, "epochs": 2, "batch_size": 16, "interval.replicates": 50}
    config.update_from_flattened_dict({**small, **changes})
    return config


def read_results(workdir):
    return json.loads((workdir / "results.json").read_text())


def read_predictions(workdir):
    with np.load(workdir / "predictions.npz") as file:
        return dict(file)


def read_log(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]
