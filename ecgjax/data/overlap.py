"""Recordings that are in two data sets: found by their samples, by their shape, and by their names.

"exact": all twelve leads are the same to a microvolt. "signal": the same recording stored otherwise: resampled, with
another gain, offset or high-pass filter. "table": the names say so, whatever the samples look like, unless they clearly
are another recording's.

Every reference record (of test folds, the smaller side) leaves a hash and a fingerprint in memory: lead II, averaged
over 40 ms, without its moving mean of a second, of unit length. 60,000 records of ten seconds take 60 MB. Other records
are read one after the other and compared with all fingerprints of their length in one matrix product; whatever comes
near is read again, and all its leads are correlated.

What is not found: excerpts of longer recordings and copies that begin elsewhere, upside-down copies, and copies without
a usable lead among II, I and V2.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgjax.data.store import NAN, Store

COARSE_RATE, FINE_RATE = 25.0, 50.0
"""Averages per second of fingerprints, and of the signals that are correlated."""

CANDIDATE, SAME, OTHER = 0.9, 0.95, 0.5
"""Correlations: of lead II, from which records are read again; of all leads, from which they are the same recording,
and below which records named alike are not."""

_LEADS = (1, 0, 7)  # II, I, V2: the first that is not flat
_CHUNK = 256
_BLOCK = 8192
_FLAT = 1e-3  # mV
_SECOND = 1.0

# What a record's name says of where it is from, whichever store it is in. The Challenge 2021 has PTB-XL's ecg_id as
# HR00001, and CPSC2018's own names; its Chapman and Ningbo records are named as in PhysioNet's joint release of the two
# (one is S23074 there and JS23074 here). Chapman's own release has other names, and the Challenge's PTB numbers are
# not PTB's: those are found by their signals only.
_NAMES = (
    (r"(\d{5})_[hl]r", "ptbxl"),
    (r"HR(\d{5})", "ptbxl"),
    (r"A(\d{4})", "cpsc2018"),
    (r"Q(\d{4})", "cpsc_extra"),
    (r"E(\d{5})", "georgia"),
    (r"J?S(23074)", "chapman-ningbo"),
    (r"JS(\d{5})", "chapman-ningbo"),
    (r"(s\d{4}[a-z_]re)", "ptb"),
)
_NO_NAMES = ("folder", "synthetic")
"""Sources whose records may be named alike without being the same."""


class Part(NamedTuple):
    """Some records of a store: row numbers."""

    store: Store
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Match:
    """A record that is a reference record.

    Attributes:
        source: name of the part it is in.
        row: row of it in the part's store.
        reference: name of the reference part.
        reference_row: row there.
        by: "exact", "signal" or "table", the first that holds.
        named: whether the names say so too.
        correlation: mean over the leads; NaN where they cannot be compared. 1 for "exact".
        same: False for a pair that is only named alike, and whose signals are clearly others.
    """

    source: str
    row: int
    reference: str
    reference_row: int
    by: str
    named: bool
    correlation: float
    same: bool = True


class Index:
    """Reference records, held in memory as hashes and fingerprints.

    Args:
        references: name -> records.
    """

    def __init__(self, references: Mapping[str, Part]) -> None:
        self._references = references
        self._entries: list[tuple[str, int]] = []
        self._exact: dict[bytes, list[int]] = {}
        self._named: dict[str, list[int]] = {}
        vectors: dict[int, list[NDArray[np.float32]]] = {}
        places: dict[int, list[int]] = {}
        for name, part in references.items():
            for row in part.rows.tolist():
                entry = len(self._entries)
                self._entries.append((name, row))
                self._named.setdefault(identity(part.store, row), []).append(entry)
                millivolts = read(part.store, row)
                vector = fingerprint(millivolts, part.store.sampling_rate)
                if vector is not None or not is_flat(millivolts):
                    self._exact.setdefault(digest(millivolts), []).append(entry)
                if vector is not None:
                    vectors.setdefault(len(vector), []).append(vector)
                    places.setdefault(len(vector), []).append(entry)
        self._vectors = {length: np.stack(own) for length, own in vectors.items()}
        self._places = {length: np.array(own) for length, own in places.items()}

    def matches(self, name: str, part: Part) -> Iterator[Match]:
        """All pairs of a record and a reference record that are the same recording, in the order of the rows.

        Args:
            name: of the part.
            part: records to look through, in bounded memory. A row of a store is never its own match.
        """
        for start in range(0, len(part.rows), _CHUNK):
            rows = part.rows[start : start + _CHUNK].tolist()
            exact: dict[int, list[int]] = {}
            vectors: dict[int, list[tuple[int, NDArray[np.float32]]]] = {}
            for row in rows:
                millivolts = read(part.store, row)
                vector = fingerprint(millivolts, part.store.sampling_rate)
                same = vector is not None or not is_flat(millivolts)
                exact[row] = self._exact.get(digest(millivolts), []) if same else []
                if vector is not None:
                    vectors.setdefault(len(vector), []).append((row, vector))
            near = self._near(vectors)
            for row in rows:
                yield from self._of_row(name, part.store, row, exact[row], near.get(row, set()))

    def _near(self, vectors: Mapping[int, Sequence[tuple[int, NDArray[np.float32]]]]) -> dict[int, set[int]]:
        """Entries whose fingerprint comes near that of each row."""
        found: dict[int, set[int]] = {}
        for length, own in vectors.items():
            rows, matrix = [row for row, _ in own], np.stack([vector for _, vector in own])
            # Rates that do not divide evenly make a recording a sample longer or shorter.
            for other in (length - 1, length, length + 1):
                if other not in self._vectors:
                    continue
                shared = min(length, other)
                for start in range(0, len(self._vectors[other]), _BLOCK):
                    block = self._vectors[other][start : start + _BLOCK, :shared]
                    for i, j in np.argwhere(matrix[:, :shared] @ block.T >= CANDIDATE).tolist():
                        found.setdefault(rows[i], set()).add(int(self._places[other][start + j]))
        return found

    def _of_row(self, name: str, store: Store, row: int, exact: Sequence[int], near: set[int]) -> Iterator[Match]:
        named = self._named.get(identity(store, row), [])
        for entry in sorted({*exact, *near, *named}):
            reference, other = self._entries[entry]
            of = self._references[reference].store
            if of.path == store.path and other == row:
                continue
            if entry in exact:
                yield Match(name, row, reference, other, "exact", entry in named, 1.0)
                continue
            how_alike = correlation(read(store, row), store.sampling_rate, read(of, other), of.sampling_rate)
            if how_alike >= SAME:
                yield Match(name, row, reference, other, "signal", entry in named, how_alike)
            elif entry in named:
                yield Match(name, row, reference, other, "table", True, how_alike, same=not how_alike < OTHER)


def identity(store: Store, row: int) -> str:
    """What a record's name says it is: equal for records that are named as copies of one recording."""
    record, source = str(store.records["record_id"].iloc[row]), str(store.meta["source"])
    for pattern, space in _NAMES:
        match = re.fullmatch(pattern, record)
        if match:
            return f"{space}/{match[1]}"
    # Others are only known within their source; of some sources not even there.
    return f"{store.path}/{record}" if source in _NO_NAMES else f"{source}/{record}"


def read(store: Store, row: int) -> NDArray[np.float32]:
    """(samples, 12) of a record, mV (or the store's unit), NaN as 0."""
    raw = store.raw(row)
    if store.dtype == "float32":
        return np.nan_to_num(raw, nan=0.0)
    step = float(store.records["microvolt_per_bit"].iloc[row]) / 1000
    return np.where(raw == NAN, np.float32(0), raw * np.float32(step))


def is_flat(millivolts: NDArray[np.float32]) -> bool:
    """Whether no lead ever changes: such recordings are alike without being the same."""
    return bool((np.ptp(millivolts, axis=0) < _FLAT).all())


def digest(millivolts: NDArray[np.float32]) -> bytes:
    """Hash of the samples, rounded to microvolts."""
    return hashlib.blake2b(np.rint(millivolts * 1000).astype("<i4").tobytes(), digest_size=16).digest()


def fingerprint(millivolts: NDArray[np.float32], rate: float) -> NDArray[np.float32] | None:
    """Lead II (or I, or V2) as a vector of unit length, 25 values per second; None where these leads are flat.

    Args:
        millivolts: (samples, 12).
        rate: Hz.
    """
    for lead in _LEADS:
        vector = _averages(millivolts[:, lead : lead + 1], rate, COARSE_RATE)[:, 0]
        norm = np.linalg.norm(vector)
        if norm > _FLAT * np.sqrt(max(len(vector), 1)):
            return (vector / norm).astype(np.float32)
    return None


def correlation(a: NDArray[np.float32], rate_a: float, b: NDArray[np.float32], rate_b: float) -> float:
    """Mean correlation of the leads of two signals that begin at the same time; NaN if none can be compared.

    Args:
        a: (samples, 12) mV.
        rate_a: its rate, Hz.
        b: (samples, 12) mV.
        rate_b: its rate, Hz.
    """
    first, second = _averages(a, rate_a, FINE_RATE), _averages(b, rate_b, FINE_RATE)
    if abs(len(first) - len(second)) > max(2, 0.02 * len(first)):
        return float("nan")
    shared = min(len(first), len(second))
    first, second = first[:shared], second[:shared]
    first, second = first - first.mean(0), second - second.mean(0)
    norms = np.linalg.norm(first, axis=0), np.linalg.norm(second, axis=0)
    usable = (norms[0] > _FLAT * np.sqrt(shared)) & (norms[1] > _FLAT * np.sqrt(shared))
    if not usable.any():
        return float("nan")
    return float(((first * second).sum(0)[usable] / (norms[0] * norms[1])[usable]).mean())


def _averages(millivolts: NDArray[np.float32], rate: float, wanted: float) -> NDArray[np.float64]:
    """(values, leads) means over intervals of 1 / `wanted` seconds, without their moving mean of a second.

    The integral of the signal is interpolated at the intervals' ends, so that any two rates give nearly the same; a
    sample stands for the time around it, from half an interval of samples before to half of one after.
    """
    samples = len(millivolts)
    count = int((samples - 0.5) / rate * wanted + 1e-6)
    if count < 2:
        return np.zeros((0, millivolts.shape[1]))
    integral = np.zeros((samples + 1, millivolts.shape[1]))
    np.cumsum(millivolts, axis=0, dtype=np.float64, out=integral[1:])
    ends = np.minimum(np.arange(count + 1) * (rate / wanted) + 0.5, samples)
    low = np.minimum(ends.astype(np.intp), samples - 1)
    at = integral[low] + (ends - low)[:, None] * (integral[low + 1] - integral[low])
    means = np.diff(at, axis=0) * (wanted / rate)
    half = int(wanted * _SECOND / 2)
    running = np.zeros((count + 1, millivolts.shape[1]))
    np.cumsum(means, axis=0, out=running[1:])
    start, stop = np.maximum(np.arange(count) - half, 0), np.minimum(np.arange(count) + half + 1, count)
    return means - (running[stop] - running[start]) / (stop - start)[:, None]
