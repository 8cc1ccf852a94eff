"""A data set of another package: arrays in .npy files, and a table."""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from ecgjax.data.leads import CANONICAL
from ecgjax.data.preparation.folds import patient_folds
from ecgjax.data.preparation.source import Facts, Labels
from ecgjax.data.preparation.vocabulary import label_set, vocabulary
from ecgjax.data.recording import Recording, from_channels

FACTS = Facts(
    name="other",
    title="Another data set",
    version="1.2",
    licence="CC0",
    sampling_rate=250.0,
    records=150,
    published={"all": {"AFIB": 50, "SR": 99, "VF": 2}},
    skip=("all_nan", "flat"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prefix", default="", help="put before record ids")


def listing(raw: Path, options: argparse.Namespace) -> pd.DataFrame:
    table = pd.read_csv(raw / "table.csv", dtype=str, keep_default_na=False).sort_values("name")
    return pd.DataFrame(
        {
            "record_id": options.prefix + table["name"],
            "patient_id": table["patient"],
            "key": "records/" + table["name"] + ".npy",
            "site": table["site"].replace("", None),
            "_labels": table["labels"],
            "_ef": pd.to_numeric(table["ef"]),
        }
    )


def read(raw: Path, key: str) -> Recording:
    if (raw / "pids").is_dir():
        (raw / "pids" / str(os.getpid())).write_text(str("jax" in sys.modules))
    if (raw / "slow").exists():
        time.sleep(0.02)
    name = Path(key).stem
    if name in (raw / "deadly").read_text().split():
        os._exit(3)
    signal = np.load(raw / key)
    number = int(name[1:])
    metadata = {
        "age": np.float64(40 + number),
        "code": f"{number:04d}",
        "site": "from the recording",
        "list": [1, 2],
        **({"remark": "odd"} if number % 2 else {}),
        "_hidden": number,
    }
    return from_channels(name, signal, CANONICAL, 250.0, source=raw / key, steps=[5.0] * 12, metadata=metadata)


def label(table: pd.DataFrame, options: argparse.Namespace) -> Labels:
    assert (table["_hidden"] == table["code"].astype(int)).all()
    lists = [text.split() for text in table["_labels"]]
    sets = {
        "all": label_set(lists, vocabulary(lists, options.min_count)),
        "ef": (("ef", "age"), table[["_ef", "age"]].to_numpy(), ("regression",) * 2),
    }
    folds = patient_folds(lists, table["patient_id"].tolist())
    return Labels(folds, sets, (f"protocol {options.protocol}",))
