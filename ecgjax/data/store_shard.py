"""One shard of a store: signals as rows of a .npy file, as float32 or as int16 multiples of a step."""

import contextlib
import hashlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from ecgjax.data.store import NAN


def quantise(signal: np.ndarray, microvolt_per_bit: float | None) -> tuple[np.ndarray, float]:
    """Millivolts as int16 multiples of a step; NaN becomes `NAN`.

    Args:
        signal: (samples, leads) float32, mV.
        microvolt_per_bit: the source's step, or None for 1 microvolt. It is doubled until the signal fits.

    Returns:
        The int16 array and the step used.
    """
    step = microvolt_per_bit or 1.0
    microvolts = np.multiply(signal, 1000, dtype=np.float64)
    missing = np.isnan(microvolts)
    gaps = bool(missing.any())
    if gaps:
        microvolts[missing] = 0.0
    peak = max(microvolts.max(initial=0.0), -microvolts.min(initial=0.0))
    while peak / step > 32767:
        step *= 2
    microvolts /= step
    bits = np.rint(microvolts, out=microvolts).astype(np.int16)
    if gaps:
        bits[missing] = NAN
    return bits, step


class Shard:
    """A .npy file that grows: rows are appended, the row count in its header is set at the end.

    It is written, not memory-mapped, because a full disk under a memory map kills the process.
    """

    def __init__(self, path: Path, dtype: np.dtype, row: tuple[int, ...] = (12,)) -> None:
        self.path, self.rows, self._dtype, self._row = path, 0, dtype, row
        self._file = open(path, "wb")  # noqa: SIM115 (closed by `close` or `discard`)
        self._file.write(self._header())

    def append(self, rows: np.ndarray) -> int:
        """Writes rows and returns the first one's number."""
        start, self.rows = self.rows, self.rows + len(rows)
        self._file.write(np.ascontiguousarray(rows, self._dtype.newbyteorder("<")).tobytes())
        return start

    def close(self) -> dict[str, Any]:
        """Finishes the file and returns its size and checksum."""
        self._file.seek(0)
        self._file.write(self._header())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        with open(self.path, "rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": self.path.stat().st_size, "sha256": checksum, "rows": self.rows}

    def discard(self) -> None:
        """Closes the file without finishing it."""
        # Closing flushes, which fails again on a full disk; the file is about to be removed.
        with contextlib.suppress(OSError):
            self._file.close()

    def _header(self) -> bytes:
        buffer = io.BytesIO()
        description = np.lib.format.dtype_to_descr(self._dtype.newbyteorder("<"))
        # numpy pads the header so that the first axis may grow without moving the data.
        np.lib.format.write_array_header_1_0(
            buffer, {"descr": description, "fortran_order": False, "shape": (self.rows, *self._row)}
        )
        return buffer.getvalue()
