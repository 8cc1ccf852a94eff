"""Damaged and hostile files of every foreign format give a recording or one line of an error, in little memory."""

import json
import re
import resource

import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecgjax.data import (
    readers_aecg,
    readers_array,
    readers_cardiosoft,
    readers_edf,
    readers_mat,
    readers_muse,
    readers_scp,
)
from ecgjax.data.leads import CANONICAL
from ecgjax.data.readers import read_recording
from ecgjax.errors import UserError
from tests.data import wfdb_files, wild_files
from tests.data.make_wild_goldens import write_edf

for package in ("defusedxml", "ecgdatakit", "edfio"):
    pytest.importorskip(package, reason="the extra 'formats' is not installed")

BITS = wfdb_files.bits(40) // 8
MOST_MEMORY = 200_000  # KiB
HOSTILE = (
    b"0", b"-1", b"nan", b"1e999", b"99999999", b"2147483648", b"9" * 40, b"\0", b"\xff" * 4, b"\x7f\xff\xff\xff",
    b"<a>", b"&x;", b",,", b"  ", b"\n", "µ".encode(), b"]]>",
)  # fmt: skip


def _csv(path):
    lines = [",".join(CANONICAL), *(",".join(map(str, row)) for row in BITS.tolist())]
    path.write_text("\n".join(lines) + "\n")


def _scp3(path):
    import struct

    leads = b"".join(struct.pack("<BHB", code, 2500, 0) for code in wild_files.SCP_CODES.values())
    section = struct.pack("<IBIB", 500, 12, len(BITS), 2) + bytes(60) + leads + BITS.astype("<i2").tobytes()
    wild_files.write_scp(path, {12: section}, version=29)


WRITERS = {
    "muse": (readers_muse.read, lambda path: wild_files.muse(path, BITS[:, :8])),
    "cardiosoft": (readers_cardiosoft.read, lambda path: wild_files.cardiosoft(path, BITS, disclosure=BITS[:5])),
    "aecg": (readers_aecg.read, lambda path: wild_files.aecg(path, wild_files.aecg_set(BITS))),
    "scp": (readers_scp.read, lambda path: wild_files.scp(path, BITS, huffman=True, order=2)),
    "scp3": (readers_scp.read, _scp3),
    "edf": (readers_edf.read, lambda path: write_edf(path, BITS, 40.0)),
    "mat4": (readers_mat.read, lambda path: scipy.io.savemat(path, {"val": BITS.T}, format="4")),
    "mat5": (readers_mat.read, lambda path: scipy.io.savemat(path, {"ECG": {"sex": "M", "age": 5, "data": BITS.T}})),
    "npy": (readers_array.read_npy, lambda path: np.save(path, BITS)),
    "csv": (readers_array.read_csv, _csv),
}
SUFFIXES = {"mat4": ".mat", "mat5": ".mat", "npy": ".npy", "csv": ".csv"}


@st.composite
def damages(draw):
    """One to four ways of damaging bytes, at places given as shares of the length."""
    place = st.floats(0, 1, exclude_max=True)
    damage = st.one_of(
        st.tuples(st.just("flip"), place, st.integers(0, 7)),
        st.tuples(st.just("set"), place, st.integers(0, 255)),
        st.tuples(st.just("cut"), place, st.just(0)),
        st.tuples(st.just("lose"), place, st.integers(1, 60)),
        st.tuples(st.just("double"), place, st.integers(1, 60)),
        st.tuples(st.just("insert"), place, st.sampled_from(HOSTILE)),
        st.tuples(st.just("replace"), place, st.sampled_from(HOSTILE)),
        st.tuples(st.just("number"), place, st.sampled_from(HOSTILE)),
        st.tuples(st.just("head"), place, st.integers(0, 255)),
    )
    return draw(st.lists(damage, min_size=1, max_size=4))


def apply(content: bytes, changes) -> bytes:
    data = bytearray(content)
    for kind, place, value in changes:
        at = int(place * max(len(data), 1))
        if not data:
            break
        if kind == "flip":
            data[at] ^= 1 << value
        elif kind == "set":
            data[at] = value
        elif kind == "cut":
            del data[at:]
        elif kind == "lose":
            del data[at : at + value]
        elif kind == "double":
            data[at:at] = data[at : at + value]
        elif kind == "insert":
            data[at:at] = value
        elif kind == "replace":
            data[at : at + len(value)] = value
        elif kind == "number":
            # Rates, counts and steps rather than samples: of the numbers the first hundred.
            numbers = [match.span() for match in re.finditer(rb"\d+", bytes(data))][:100]
            if numbers:
                start, end = numbers[int(place * len(numbers))]
                data[start:end] = value
        else:
            # Where binary files keep counts.
            data[int(place * min(len(data), 400))] = value
    return bytes(data)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", WRITERS)
def test_damaged_files(tmp_path, kind):
    reader, write = WRITERS[kind]
    path = tmp_path / f"fuzzed{SUFFIXES.get(kind, '')}"
    if kind in ("mat4", "npy", "csv"):
        description = {"sampling_rate": 500, "unit": "uV", "leads": list(CANONICAL)}
        (tmp_path / "recordings.json").write_text(json.dumps(description))
    write(path)
    if not path.is_file():
        path.with_suffix(".npy").rename(path)
    content = path.read_bytes()
    # The format is told apart from the others, and whatever the reader allocates once is there.
    assert read_recording(path).signal.shape == (40, 12)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = {}

    def attack(read):
        try:
            recording = read(path)
        except UserError as error:
            message = str(error)
            outcomes["refused" if "fuzzed" in message and "\n" not in message else message] = 1
        else:
            assert recording.signal.dtype == np.float32
            assert recording.signal.shape[1] == 12
            assert len(recording.signal) > 0
            assert not np.isinf(recording.signal).any()
            assert np.isfinite(recording.sampling_rate)
            outcomes["read"] = 1

    @settings(max_examples=200, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(damages())
    def run(changes):
        path.write_bytes(apply(content, changes))
        attack(reader)
        attack(read_recording)

    run()
    assert outcomes.keys() == {"read", "refused"}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY
