"""Damaged files of every format give a recording or a one-line error, and nothing else, hangs or floods."""

import resource
from pathlib import Path

import numpy as np
import pytest

from ecgjax.data.readers import read_recording
from ecgjax.data.recording import Recording
from ecgjax.errors import UserError
from tests.data import wfdb_files

ROUNDS = 250


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """Flipped bits, a lost or doubled piece, a cut end, or digits turned into other digits."""
    data = bytearray(content)
    kind = rng.integers(5)
    if kind == 0:
        for _ in range(int(rng.integers(1, 20))):
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    elif kind == 1:
        del data[int(rng.integers(len(data))) :]
    elif kind == 2:
        start = int(rng.integers(len(data)))
        del data[start : start + int(rng.integers(1, 50))]
    elif kind == 3:
        start = int(rng.integers(len(data)))
        data[start:start] = data[start : start + int(rng.integers(1, 50))]
    else:
        # Lengths, counts and rates: what a reader might believe.
        digits = [i for i, byte in enumerate(data[:4000]) if chr(byte).isdecimal()] or [0]
        for i in rng.choice(digits, size=3):
            data[i : i + 1] = rng.choice([b"9", b"0", b"99999999", b"-", b"e9", b"."])
    return bytes(data)


def outcome(path: Path) -> str:
    try:
        recording = read_recording(path)
    except UserError as error:
        message = str(error)
        return "refused" if path.stem in message and "\n" not in message else f"badly refused: {message}"
    assert isinstance(recording, Recording)
    assert recording.signal.dtype == np.float32
    assert recording.signal.shape[1] == 12
    assert not np.isinf(recording.signal).any()
    return "read"


def attack(original: Path, target: Path, seed: int) -> dict[str, int]:
    content, rng = original.read_bytes(), np.random.default_rng(seed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts = {"read": 0, "refused": 0}
    for _ in range(ROUNDS):
        original.write_bytes(damage(content, rng))
        counts[outcome(target)] += 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB
    return counts


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".hea", ".mat"])
def test_challenge_record(tmp_path, suffix):
    header = wfdb_files.challenge(tmp_path, "fuzzed", wfdb_files.bits(), notes=["# Age: 50", "# Dx: 1,2"])
    counts = attack(header.with_suffix(suffix), header, seed=1)
    assert min(counts.values()) > 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("suffix", "fmt"), [(".hea", "212"), (".dat", "212"), (".dat", "24"), (".hea", "24")])
def test_packed_formats(tmp_path, suffix, fmt):
    header = wfdb_files.dat(tmp_path, "fuzzed", wfdb_files.bits() // 8, fmt=fmt)
    counts = attack(header.with_suffix(suffix), header, seed=2)
    assert min(counts.values()) > 0


@pytest.mark.filterwarnings("ignore")
def test_flac(tmp_path):
    pytest.importorskip("soundfile")
    header = wfdb_files.dat(tmp_path, "fuzzed", wfdb_files.bits(), fmt="516")
    signal_file = next(path for path in tmp_path.iterdir() if path != header)
    attack(signal_file, header, seed=3)


@pytest.mark.filterwarnings("ignore")
def test_dicom(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    dataset = pydicom.dcmread(get_testdata_file("waveform_ecg.dcm", download=False))
    group = dataset.WaveformSequence[0]
    # A short record: most of the bytes to be damaged should be the header's.
    group.WaveformData, group.NumberOfWaveformSamples = group.WaveformData[: 24 * 50], 50
    del dataset.WaveformSequence[1]
    dataset.save_as(tmp_path / "fuzzed.dcm")
    counts = attack(tmp_path / "fuzzed.dcm", tmp_path / "fuzzed.dcm", seed=4)
    assert min(counts.values()) > 0
