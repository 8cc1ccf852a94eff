"""WFDB records for tests: by the wfdb package, and by hand where it writes none (the Challenge's .mat, odd headers)."""

from pathlib import Path

import numpy as np
import scipy.io
import wfdb

from ecgjax.data.leads import CANONICAL


def bits(samples: int = 200, leads: int = 12, seed: int = 0, peak: int = 1000) -> np.ndarray:
    """(samples, leads) int16 up to twice `peak`; six limb leads, if there, obey Einthoven and Goldberger."""
    x = 2 * np.random.default_rng(seed).integers(-peak // 2, peak // 2, size=(samples, leads))
    if leads >= 6:
        one, two = x[:, 0], x[:, 1]
        x[:, 2], x[:, 3], x[:, 4], x[:, 5] = two - one, -(one + two) // 2, one - two // 2, two - one // 2
    return x.astype(np.int16)


def checksum(x: np.ndarray) -> int:
    return int(np.uint16(x.astype(np.int64).sum() & 0xFFFF).view(np.int16))


def challenge(
    folder: Path, name: str, x: np.ndarray, *, units="mV", gain="1000.0(0)", names=CANONICAL, rate=500, notes=()
):
    """As the Challenge 2021 writes them: MATLAB v4 whose body is read as format 16 after 24 bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(folder / f"{name}.mat", {"val": np.ascontiguousarray(x.T)}, format="4")
    lines = [f"{name} {x.shape[1]} {rate} {len(x)}"]
    for i, lead in enumerate(names):
        field = f"{gain}/{units}" if units is not None else gain
        lines.append(f"{name}.mat 16x1+24 {field} 16 0 {x[0, i]} {checksum(x[:, i])} 0 {lead}")
    header = folder / f"{name}.hea"
    header.write_text("\n".join([*lines, *notes]) + "\n", encoding="utf-8")
    return header


def dat(folder: Path, name: str, x: np.ndarray, *, names=CANONICAL, rate=500, fmt="16", gain=1000.0):
    """Through the wfdb package."""
    folder.mkdir(parents=True, exist_ok=True)
    wfdb.wrsamp(
        name, fs=rate, units=["mV"] * x.shape[1], sig_name=list(names), d_signal=x.astype(np.int64),
        fmt=[fmt] * x.shape[1], adc_gain=[gain] * x.shape[1], baseline=[0] * x.shape[1], write_dir=str(folder),
    )  # fmt: skip
    return folder / f"{name}.hea"


def edit(header: Path, old: str, new: str, count: int = -1) -> Path:
    text = header.read_bytes().decode("utf-8")
    assert old in text
    header.write_bytes(text.replace(old, new, count).encode("utf-8"))
    return header
