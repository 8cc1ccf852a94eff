"""Shows what a prepared store holds and what its checks found."""

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from ecgjax.data.store import SPLITS, Store
from ecgjax.errors import UserError

_SHOWN_CLASSES = 40


def read_checks(store: Store) -> dict[str, Any]:
    """Content of a store's checks.json.

    Raises:
        UserError: it has none.
    """
    path = store.path / "checks.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a store that ecgjax.prepare wrote")
    checks: dict[str, Any] = json.loads(path.read_text())
    return checks


def failures(checks: Mapping[str, Any]) -> list[str]:
    """One line for each thing to look at before trusting a result."""
    return [f"{check['name']}: {check['detail']}" for check in checks["checks"] if check["passed"] is False]


def show(store: Store, checks: Mapping[str, Any], console: Console) -> None:
    """Prints the summary."""
    console.print(_facts(store, checks))
    # Counts of a dry run are not compared, see `checks`.
    compared = any(check["name"] == "published counts" and check["passed"] is not None for check in checks["checks"])
    for label_set in store.label_sets():
        console.print(f"label set {label_set!r}: positives (regression: known values)", markup=False)
        published = checks["published"].get("label_sets", {}).get(label_set, {}) if compared else {}
        console.print(_label_table(store, label_set, published))
    console.print("checks")
    table = Table()
    table.add_column("check")
    table.add_column("")
    table.add_column("found", overflow="fold")
    for check in checks["checks"]:
        mark = {True: "[green]passed", False: "[red]FAILED", None: "-"}[check["passed"]]
        table.add_row(check["name"], mark, check["detail"])
    console.print(table)
    for note in checks["notes"]:
        console.print(f"note: {note}", markup=False)


def _facts(store: Store, checks: Mapping[str, Any]) -> Table:
    records, meta = store.records, store.meta
    hours = records["samples"].sum() / store.sampling_rate / 3600
    seconds = records["samples"] / store.sampling_rate
    step = records["microvolt_per_bit"]
    per_bit = "uV per bit" if meta["unit"] == "mV" else f"thousandths of the {meta['unit']} per bit"
    rows = {
        "source": " ".join(filter(None, [meta["source"], meta["source_version"]])),
        "licence": meta["licence"],
        "records": f"{len(store):,} of {meta['patients']:,} patients, {hours:,.2f} h",
        "duration": f"{seconds.min():g} to {seconds.max():g} s at {store.sampling_rate:g} Hz",
        "rejected": f"{meta['rejected']:,}" + (" (reasons in rejected.csv)" if meta["rejected"] else ""),
        "derived leads": _counts(checks["leads"]["derived"]),
        "missing leads": _counts(checks["leads"]["missing"]),
        "records with NaN": f"{(records['nan_samples'] > 0).sum():,}",
        "stored as": store.dtype if store.dtype == "float32" else f"int16, {step.min():g} to {step.max():g} {per_bit}",
        "unit": "" if meta["unit"] == "mV" else meta["unit"],
        "folds": ", ".join(f"{fold}: {count:,}" for fold, count in meta["records_per_fold"].items()),
        "fingerprint": store.fingerprint,
        "store": str(store.path),
    }
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in rows.items():
        if value:
            facts.add_row(name, value)
    return facts


def _label_table(store: Store, label_set: str, published: Mapping[str, Mapping[str, int | None]]) -> Table:
    table = Table()
    table.add_column("class", overflow="fold")
    for split in SPLITS:
        table.add_column(f"{split} ({len(store.rows(split)):,})", justify="right")
    mean, sd = store.scales(label_set)
    kinds = store.kinds(label_set)
    regression = "regression" in kinds
    if regression:
        table.add_column("mean (SD)", justify="right")
    if published:
        table.add_column("all", justify="right")
        table.add_column("published", justify="right")
        table.add_column("difference", justify="right")
    positive = store.targets(label_set) == 1
    known = store.targets(label_set) == store.targets(label_set)
    classes = list(dict.fromkeys([*store.classes(label_set), *published]))
    number = {name: i for i, name in enumerate(store.classes(label_set))}
    # Classes that differ from the publication are never left out.
    shown = [c for i, c in enumerate(classes) if i < _SHOWN_CLASSES or _differs(published.get(c))]
    for name in shown:
        row, i = [name], number.get(name)
        for split in SPLITS:
            counted = None if i is None else (positive if kinds[i] == "classification" else known)[:, i]
            row.append("" if counted is None else f"{counted[store.rows(split)].sum():,}")
        if regression:
            row.append(f"{mean[i]:.4g} ({sd[i]:.4g})" if i is not None and kinds[i] == "regression" else "")
        row += _against(published[name]) if name in published else []
        table.add_row(*row)
    if len(classes) > len(shown):
        table.add_row(f"... and {len(classes) - len(shown)} more")
    return table


def _differs(counts: Mapping[str, int | None] | None) -> bool:
    return counts is not None and counts["found"] != counts["published"]


def _against(counts: Mapping[str, int | None]) -> list[str]:
    found, published = counts["found"], counts["published"]
    both = ["none" if count is None else f"{count:,}" for count in (found, published)]
    difference = (found or 0) - (published or 0)
    return [*both, f"{difference:+,}" if difference else ""]


def _counts(leads: Mapping[str, int]) -> str:
    return ", ".join(f"{lead} in {count:,}" for lead, count in leads.items()) or "none"
