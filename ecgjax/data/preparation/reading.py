"""Reads all records of a data set into shards, in several processes, and stops when too many cannot be used."""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from ecgjax.data.preparation import shards, workers
from ecgjax.data.preparation.assembly import rejected_csv
from ecgjax.data.preparation.progress import ReadingProgress
from ecgjax.data.preparation.source import Facts
from ecgjax.data.preparation.workplace import Workplace
from ecgjax.errors import UserError


def read_records(
    source: str, facts: Facts, options: argparse.Namespace, place: Workplace, listing: pd.DataFrame
) -> None:
    """Writes the shards that are not there yet.

    Args:
        source: what `sources.load` takes.
        facts: of the source.
        options: of the command.
        place: where they go.
        listing: all records.

    Raises:
        UserError: too many unusable records, different sampling rates, a process that died, a full disk.
    """
    outcome = _Outcome(options, place, listing)
    jobs = []
    size = shards.records_per_shard(len(listing))
    for number, begin in enumerate(range(0, len(listing), size)):
        part = listing.iloc[begin : begin + size]
        manifest = shards.read_manifest(place.manifests / f"{number:05d}.json", place.store)
        if manifest is not None:
            outcome.take_over(len(part), manifest)
            continue
        job = shards.Job(
            number=number,
            first=begin,
            record_ids=tuple(part["record_id"]),
            keys=tuple(part["key"]),
            source=source,
            raw=Path() if options.raw is None else options.raw.absolute(),
            dtype=options.dtype,
            rate=options.rate,
            skip=facts.skip,
            sampling_rate=facts.sampling_rate,
            store=place.store,
            manifests=place.manifests,
            writing=place.writing,
            called=options.out,
            debug=options.debug,
        )
        jobs.append(job)
    outcome.check_rejected()
    with ReadingProgress(len(listing), outcome.taken_up) as progress:

        def receive(job: shards.Job, kind: str, value: Any) -> None:
            outcome.receive(kind, value)
            if kind == "doing":
                progress.advance(len(outcome.rejected))

        workers.run(shards.write_shard, jobs, options.workers, receive, _died)
    if len(outcome.rejected) == len(listing):
        name, reason = outcome.rejected[0]
        raise UserError(f"not one record is usable; the first: {name!r}: {reason}")


class _Outcome:
    """What has come of the records so far.

    Attributes:
        rejected: row of the listing -> record id and reason.
        taken_up: number of records that were begun.
    """

    def __init__(self, options: argparse.Namespace, place: Workplace, listing: pd.DataFrame) -> None:
        self.rejected: dict[int, tuple[str, str]] = {}
        self.taken_up = 0
        self._most, self._place, self._listing = options.max_rejected, place, listing
        self._first: tuple[str, float] | None = None

    def take_over(self, records: int, manifest: dict[str, Any]) -> None:
        """Counts a shard that an earlier attempt finished."""
        self.taken_up += records
        self._check_rate(manifest["first"], manifest["sampling_rate"])
        for row, reason in manifest["rejected"]:
            self.rejected[row] = self._listing["record_id"].iloc[row], reason

    def receive(self, kind: str, value: Any) -> None:
        """Takes a report of `shards.write_shard`."""
        if kind == "doing":
            self.taken_up += 1
        elif kind == "rejected":
            row, name, reason = value
            self.rejected[row] = name, reason
            self.check_rejected()
        elif kind == "written":
            _, name, rate = value
            self._check_rate(name, rate)

    def check_rejected(self) -> None:
        """Stops if more records are unusable than is allowed."""
        if len(self.rejected) <= self._most * len(self._listing):
            return
        name, reason = self.rejected[min(self.rejected)]
        seen = ""
        if self._place.finished():
            path = self._place.path / "rejected.csv"
            path.write_text(rejected_csv(self.rejected))
            seen = f" (all so far: {path})"
        raise UserError(
            f"{len(self.rejected)} of the first {self.taken_up} records are unusable, more than "
            f"--max-rejected={self._most:g} of {len(self._listing)} allows; the first: {name!r}: {reason}{seen}"
        )

    def _check_rate(self, name: str | None, rate: float | None) -> None:
        if name is None or rate is None:
            return
        self._first = self._first or (name, rate)
        if rate != self._first[1]:
            raise shards.different_rates(*self._first, name, rate)


def _died(job: shards.Job, doing: str | None, exit_code: int | None) -> UserError:
    how = f"signal {-exit_code}" if exit_code is not None and exit_code < 0 else f"exit code {exit_code}"
    what = f"while it read record {doing!r}" if doing else "before it read a record"
    out_of_memory = "; signal 9 may mean that memory ran out: try fewer --workers" if exit_code == -9 else ""
    return UserError(
        f"a worker process died ({how}) {what}{out_of_memory}; the same command goes on with the shards that are done"
    )
