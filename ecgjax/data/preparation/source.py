"""What a data source is: the facts of a data set, and three functions from its raw files to labelled records."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import pandas as pd

from ecgjax.data.download.origins import Origin
from ecgjax.data.recording import Recording

LabelSet = tuple[tuple[str, ...], np.ndarray, tuple[str, ...]]
"""Class names, targets (records, classes) with NaN for unknown, and "classification" or "regression" per class."""


@dataclass(frozen=True)
class Facts:
    """What is known of a data set before it is read.

    Attributes:
        name: of the source, as on the command line.
        title: full name.
        version: of the release that the facts are of.
        licence: of the data.
        sampling_rate: Hz of the store; None where the records say.
        origins: where to get it; several where it comes in parts.
        records: number of records as published, or None.
        published: label set -> class -> number of positive records as published.
        dtype: "int16", or "float32" where the values are no voltages.
        unit: of the stored values; "z-score" where the publisher standardised them.
        einthoven: whether the leads obey I + III = II; otherwise the reason why they need not.
        generated: whether the records are computed, so that there is no --raw.
        skip: reasons to reject a record that can be read: "nan" (any value missing), "all_nan", "flat" (all leads
            constant), "zero" (all values 0).
    """

    name: str
    title: str
    version: str
    licence: str
    sampling_rate: float | None
    origins: tuple[Origin, ...] = ()
    records: int | None = None
    published: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    dtype: Literal["int16", "float32"] = "int16"
    unit: Literal["mV", "z-score"] = "mV"
    einthoven: Literal[True] | str = True
    generated: bool = False
    skip: tuple[Literal["nan", "all_nan", "flat", "zero"], ...] = ("all_nan",)


@dataclass
class Labels:
    """What a source says of the records that could be read.

    Attributes:
        folds: (records,) int; the highest is test, the one below it validation, the others training.
        sets: by name; regression targets in their own units, the store standardises them on the training folds.
        notes: lines for the summary and the store: deviations, what was dropped, what differs from the publication.
    """

    folds: np.ndarray
    sets: dict[str, LabelSet]
    notes: tuple[str, ...] = ()


class Source(Protocol):
    """A module of `ecgjax.data.sources`, or of another package by the entry point group "ecgjax.sources".

    Its docstring is the help text of `python -m ecgjax.prepare NAME`: layout below --raw, label rules, folds, traps.
    """

    FACTS: Facts

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """Adds options of this source alone; --raw, --out, --workers, --limit and so on are common to all."""

    @staticmethod
    def listing(raw: Path, options: argparse.Namespace) -> pd.DataFrame:
        """One row per record of the store, in its order (sorted by name), without reading signals.

        Columns: `record_id` (unique), `patient_id`, `key` (what `read` needs: a path below raw, with "#row" where a
        file holds several records); others are carried on, into the store's index too unless they begin with "_".

        Raises:
            UserError: a missing or malformed file, with what was expected.
        """

    @staticmethod
    def read(raw: Path, key: str) -> Recording:
        """Reads one record, in any process. Flat values of its metadata become columns of the table `label` gets.

        Raises:
            UserError: the record cannot be read; it is rejected with this reason.
        """

    @staticmethod
    def label(table: pd.DataFrame, options: argparse.Namespace) -> Labels:
        """Folds and targets of the records that were read; row i of `table` is record i.

        `options.min_count` is the number of occurrences that a class needs (10; 1 with --limit). `options.work` is a
        path for a folder, not made yet, in which the source may keep what is dear to compute until the store is done.
        """
