"""Makes tests/golden/wild/synthetic.{npz,edf,xml,scp}: `python -m tests.data.make_wild_goldens`, with biosig-tools.

Two seconds of a synthetic ECG through two writers that are nobody's here: edfio writes EDF, and Debian's biosig-tools
(save2gdf, version 2.5.0 when the files were made) turns that into HL7 aECG and SCP-ECG.
"""

import shutil
import subprocess
from pathlib import Path

import numpy as np

from ecgjax.data.leads import CANONICAL
from tests.conftest import GOLDEN

FOLDER = GOLDEN / "wild"
STEP = 2.5
"""Microvolts per bit."""


def write_edf(path: Path, bits: np.ndarray, rate: float, step: float = STEP) -> None:
    """By edfio: (samples, 12) int16 at `step` microvolts per bit."""
    import edfio

    signals = [
        edfio.EdfSignal.from_digital(
            column.astype(np.int16), rate, label=name, physical_dimension="uV",
            physical_range=(-32768 * step, 32767 * step),
        )
        for name, column in zip(CANONICAL, bits.T, strict=True)
    ]  # fmt: skip
    edfio.Edf(signals).write(path)


def convert(source: Path, target: Path, kind: str) -> None:
    """By save2gdf: `kind` is HL7 or SCP3."""
    subprocess.run(["save2gdf", f"-f={kind}", str(source), str(target)], check=True, capture_output=True)


def main() -> None:
    from ecgjax.data.sources.synthetic import synthesize

    if not shutil.which("save2gdf"):
        raise SystemExit("save2gdf is not installed; it is in Debian's package biosig-tools")
    signal, _ = synthesize((), np.random.default_rng(0), 500.0, 2.0)
    bits = np.round(signal * 1000 / STEP).astype(np.int16)
    np.savez_compressed(FOLDER / "synthetic.npz", bits=bits)
    write_edf(FOLDER / "synthetic.edf", bits, 500.0)
    convert(FOLDER / "synthetic.edf", FOLDER / "synthetic.xml", "HL7")
    convert(FOLDER / "synthetic.edf", FOLDER / "synthetic.scp", "SCP3")


if __name__ == "__main__":
    main()
