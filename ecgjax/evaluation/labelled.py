"""What an evaluation trains and tests on: a store, a label set, and its three splits, checked."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from absl import logging
from numpy.typing import NDArray

from ecgjax.data import embedded, sources, subsets
from ecgjax.data.crops import split_short, window_samples
from ecgjax.data.store import SPLITS, Store, open_store
from ecgjax.errors import UserError
from ecgjax.tasks import HeadRun


@dataclass(frozen=True)
class Labelled:
    """Labelled splits of a store.

    Attributes:
        store: the signals.
        label_set: its label set.
        classes: names of the outputs, classification first.
        kinds: "classification" or "regression" of each.
        targets: (records of the store, outputs) float32, NaN where unknown.
        rows: row numbers of each split, by its name.
        left_out: number of records of each split that are shorter than the window or the task's minimum.
    """

    store: Store
    label_set: str
    classes: tuple[str, ...]
    kinds: tuple[str, ...]
    targets: NDArray[np.float32]
    rows: dict[str, NDArray[np.int64]]
    left_out: dict[str, int]

    @property
    def n_classification(self) -> int:
        return self.kinds.count("classification")

    @property
    def n_regression(self) -> int:
        return self.kinds.count("regression")

    def patients(self) -> dict[str, int]:
        """Number of patients in each split."""
        patient = self.store.records["patient_id"]
        return {split: patient.iloc[rows].nunique() for split, rows in self.rows.items()}


def load(run: HeadRun, seconds: float, store_path: str | None = None, label_set: str | None = None) -> Labelled:
    """Opens the data of a head run and checks that every split can be used.

    Args:
        run: from the task table.
        seconds: window of the model; shorter records are left out.
        store_path: the store; None is the embedded one, where the run has one.
        label_set: None is the run's.

    Raises:
        UserError: no store, a damaged one, no such label set, or a split in which nothing can be measured.
    """
    store = open_for(run, store_path)
    held = store.meta["source"]
    if held != run.source and run.source != "folder" and {held, run.source} <= set(sources.names()):
        logging.warning(
            "%s holds %s, but task %s is of %s: its figures are not the benchmark's",
            store.path, held, run.name, run.source,
        )  # fmt: skip
    label_set = _label_set(run, store, label_set)
    kinds = np.array(store.kinds(label_set))
    order = _outputs(run, store, label_set)
    classes = np.array(store.classes(label_set), dtype=object)[order]
    targets = store.targets(label_set)[:, order]
    rows, left_out = {}, {}
    samples, folds = store.records["samples"].to_numpy(), store.records["fold"].to_numpy()
    shortest = max(window_samples(seconds, store.sampling_rate), int(run.min_seconds * store.sampling_rate))
    for split in SPLITS:
        selected = store.rows(split)
        if run.min_fold is not None:
            selected = selected[folds[selected] >= run.min_fold]
        if run.labelled_only:
            selected = selected[(targets[selected] == 1).any(axis=1)]
        rows[split], short = split_short(selected, samples, shortest)
        left_out[split] = len(short)
        if not len(rows[split]):
            raise UserError(
                f"{store.path}: no record of at least {shortest / store.sampling_rate:g} s for {split}; expected three "
                "folds or more: the highest tests, the one below it validates, all others train"
            )
    data = Labelled(store, label_set, tuple(classes), tuple(kinds[order]), targets, rows, left_out)
    for split in SPLITS:
        _check_split(data, split)
    store.verify()
    return data


def take(data: Labelled, *, ratio: float, method: subsets.Method, validation: str, seed: int) -> Labelled:
    """The same data with fewer training records; the test set stays whole.

    Args:
        data: all of it.
        ratio: share of the training records, see `ecgjax.data.subsets`.
        method: "nested" or "paper".
        validation: "cut" takes the same share of the validation records, whose labels cost as much; "full" keeps them.
        seed: of a nested subset.

    Raises:
        UserError: arguments that cannot be, or a subset in which nothing can be measured.
    """
    if validation not in ("cut", "full"):
        raise UserError(f"config.data.validation is {validation!r}; expected cut or full")
    cut = ("train", "validation") if validation == "cut" else ("train",)
    rows = {
        split: subsets.subset(
            data.store, own, data.targets, data.classes, data.kinds, ratio=ratio, method=method, seed=seed
        )
        if split in cut
        else own
        for split, own in data.rows.items()
    }
    if all(len(rows[split]) == len(data.rows[split]) for split in rows):
        return data
    smaller = replace(data, rows=rows)
    for split in cut:
        try:
            _check_split(smaller, split)
        except UserError as error:
            hint = " (config.data.validation=full keeps all of it)" if split == "validation" else ""
            raise UserError(f"config.data.ratio={ratio:g}: {error}{hint}") from error
    return smaller


def _outputs(run: HeadRun, store: Store, label_set: str) -> NDArray[np.int64]:
    """Columns of the label set that the head run trains: in the order of its patterns, classification first."""
    classes, kinds = store.classes(label_set), np.array(store.kinds(label_set))
    found = [i for pattern in run.columns for i, name in enumerate(classes) if re.fullmatch(pattern, name)]
    if not found:
        raise UserError(
            f"{store.path}, label set {label_set!r}: none of its {len(classes)} classes belongs to task {run.name}; "
            f"expected classes like {', '.join(run.columns[:4])}"
        )
    order = np.array(list(dict.fromkeys(found)), np.int64)
    return order[np.argsort(kinds[order] == "regression", kind="stable")]


def open_for(run: HeadRun, path: str | None = None) -> Store:
    """The store of a head run.

    Raises:
        UserError: no path, and the run has no embedded store.
    """
    if path:
        return open_store(path)
    if run.source == "synthetic":
        return open_store(embedded.synthetic_store())
    prepare = run.source if run.source in sources.names() else "folder"
    raise UserError(
        f"task {run.name} needs a store; expected --config.data.store=STORE, as made by "
        f"python -m ecgjax.prepare {prepare} --raw=DIR --out=STORE"
    )


def _label_set(run: HeadRun, store: Store, name: str | None) -> str:
    name = name or run.label_set
    choices = store.label_sets()
    if name is None and len(choices) == 1:
        return choices[0]
    if name not in choices:
        found = "no label set is named" if name is None else f"the store has no label set {name!r}"
        raise UserError(
            f"{store.path}: {found}; expected --config.data.labels=NAME, one of {', '.join(choices) or '(none)'}"
        )
    return name


def _check_split(data: Labelled, split: str) -> None:
    """Refuses a split in which no class (or no regression target) is defined; names the classes that are not."""
    rows = data.rows[split]
    fold = sorted(set(data.store.records["fold"].to_numpy()[rows].tolist()))
    where = f"{split} (fold {fold[0]})" if len(fold) == 1 else f"{split} (folds {fold[0]} to {fold[-1]})"
    targets = data.targets[rows]
    positive = (targets == 1).any(axis=0)
    defined = np.where(
        np.array(data.kinds) == "regression", ~np.isnan(targets).all(axis=0), positive & (targets == 0).any(axis=0)
    )
    for kind in ("classification", "regression"):
        columns = np.flatnonzero(np.array(data.kinds) == kind)
        missing = columns[~defined[columns]]
        if not len(missing):
            continue
        names = ", ".join(data.classes[i] for i in missing[:8]) + (", ..." if len(missing) > 8 else "")
        expected = "a positive and a negative record" if kind == "classification" else "a known value"
        what = f"{Path(data.store.path).name}, label set {data.label_set!r}: {where}"
        if len(missing) == len(columns) and split != "train":
            raise UserError(f"{what} has no {kind} target with {expected} ({names}); expected at least one")
        logging.warning(
            "%s has %d of %d %s targets without %s: %s", what, len(missing), len(columns), kind, expected, names
        )
