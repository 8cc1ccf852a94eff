"""`python -m ecgjax.tasks`: the benchmark's tasks as a table, and their classes as published and as in your stores."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ecgjax import tasks
from ecgjax.data import sources
from ecgjax.data.preparation.source import Facts
from ecgjax.data.store import Store, open_store
from ecgjax.errors import UserError
from ecgjax.main import fail
from ecgjax.seen import INCOMPLETE, seen_by


def main(argv: Sequence[str] | None = None) -> None:
    """Console entry point; exits with 2 and one line on stderr if the input is wrong."""
    parser = argparse.ArgumentParser(prog="python -m ecgjax.tasks", description=__doc__)
    parser.add_argument("task", nargs="?", help="show the classes of this task")
    parser.add_argument("--stores", type=Path, help="a store, or a folder of stores, to compare with")
    arguments = parser.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    try:
        stores = find_stores(arguments.stores) if arguments.stores else {}
        if arguments.task:
            table = classes_table(arguments.task, stores)
            console.print(f"{arguments.task}: positives (of regression: known values)")
            console.print(table)
        else:
            console.print(tasks_table(stores))
            console.print(
                "seen by: models whose released weights saw the source's recordings in pretraining, without labels"
                f" (not fully known for {', '.join(INCOMPLETE)})"
            )
    except UserError as error:
        fail(error)


def find_stores(folder: Path) -> dict[str, Store]:
    """Source -> store, of a store or of the stores in a folder.

    Raises:
        UserError: none there, or two of one source.
    """
    paths = [folder] if (folder / "meta.json").is_file() else sorted(p.parent for p in folder.glob("*/meta.json"))
    found: dict[str, Store] = {}
    for path in paths:
        store = open_store(path)
        source = str(store.meta["source"])
        if source in found:
            raise UserError(f"{folder}: {found[source].path.name} and {path.name} are both of {source}; expected one")
        found[source] = store
    if not found:
        raise UserError(f"{folder}: no store in it; expected stores that ecgjax.prepare wrote")
    return found


def tasks_table(stores: dict[str, Store]) -> Table:
    """One row per task: what is trained, its size as published and in the stores, who saw the source."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("task", no_wrap=True)
    for name in ("row of the paper", "of run", "source", "metric"):
        table.add_column(name, overflow="fold")
    for name in ("classes", "records", *(["in store"] if stores else [])):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("seen by", overflow="fold", min_width=12)
    category = None
    for task in sorted(tasks.reported(), key=lambda task: task.category == "other"):
        if task.category != category:
            category = task.category
            table.add_section()
            table.add_row(Text(category.replace("_", " "), "bold"))
        run, _ = tasks.get(task.name)
        carved = "" if run.name == task.name else run.name
        row = [f" {task.name}", task.row or "", carved, run.source, task.metric or "by kind"]
        row += ["" if task.classes is None else str(task.classes), _records(run.source)]
        if stores:
            row.append(_in_store(run, task, stores.get(run.source)))
        table.add_row(*row, " ".join(seen_by(run.source)))
    return table


def classes_table(name: str, stores: dict[str, Store]) -> Table:
    """One row per class of a task: positives as published and in each split of the store.

    Raises:
        UserError: unknown task, or neither published classes nor a store to take them from.
    """
    run, (task, *_) = tasks.get(name)
    label_set = run.label_set or "labels"
    facts = _facts(run.source)
    published = _published(facts, label_set, task) if facts else {}
    store = stores.get(run.source)
    if store is not None:
        classes, kinds = store.classes(label_set), store.kinds(label_set)
        targets = store.targets(label_set)
    else:
        classes, targets = tuple(published), np.zeros((0, len(published)))
        kinds = ("regression" if task.metric == "mae" else "classification",) * len(classes)
    if not classes:
        raise UserError(f"task {name}: no published class counts; expected --stores with a store of {run.source}")
    table = Table(box=SIMPLE_HEAD)
    table.add_column("class", overflow="fold")
    table.add_column("published", justify="right")
    if store is not None:
        for column in ("in store", "difference", "train", "validation", "test"):
            table.add_column(column, justify="right")
    for i in task.select(classes, kinds):
        known = published.get(classes[i])
        row = [classes[i], "" if known is None else f"{known:,}"]
        if store is not None:
            counted = targets[:, i] == 1 if kinds[i] == "classification" else ~np.isnan(targets[:, i])
            total = int(counted.sum())
            row += [f"{total:,}", "" if known is None else f"{total - known:+,}"]
            row += [f"{int(counted[store.rows(split)].sum()):,}" for split in ("train", "validation", "test")]
        table.add_row(*row)
    return table


def _published(facts: Facts, label_set: str, task: tasks.Task) -> dict[str, int]:
    """Positives as published: of the label set, or else of another one that is a row's columns by itself."""
    sets = [facts.published.get(label_set, {})]
    if task.columns != (".*",):
        sets += facts.published.values()
    carved = [counts for counts in sets if task.select(tuple(counts), ("classification",) * len(counts))]
    return dict(carved[0]) if carved else {}


def _in_store(run: tasks.HeadRun, task: tasks.Task, store: Store | None) -> str:
    if store is None:
        return "-"
    label_set = run.label_set or store.label_sets()[0]
    if label_set not in store.label_sets():
        return "no labels"
    found = len(task.select(store.classes(label_set), store.kinds(label_set)))
    difference = "" if task.classes in (None, found) else f" ({found - task.classes:+d})"
    return f"{found}{difference} of {len(store):,}"


def _records(source: str) -> str:
    facts = _facts(source)
    return f"{facts.records:,}" if facts and facts.records else ""


def _facts(source: str) -> Facts | None:
    return getattr(sources.load(source), "FACTS", None) if source in sources.names() else None
