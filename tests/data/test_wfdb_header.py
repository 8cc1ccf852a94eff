"""Headers and plain signal files are read as the wfdb package reads them."""

import numpy as np
import pytest
import wfdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecgjax.data import readers_wfdb
from ecgjax.data.leads import CANONICAL
from ecgjax.data.readers import read_recording
from ecgjax.data.wfdb_header import parse
from tests.data import wfdb_files

FIELDS = (
    "n_sig", "fs", "sig_len", "file_name", "fmt", "samps_per_frame", "skew", "byte_offset", "adc_gain", "baseline",
    "checksum", "sig_name",
)  # fmt: skip

number = st.integers(-40000, 40000).map(str)
count = st.integers(0, 9999).map(str)


@st.composite
def signal_lines(draw) -> str:
    """A signal line, cut off anywhere, as the format allows."""
    fmt = draw(st.sampled_from(["16", "212", "24", "8"]))
    fmt += draw(st.sampled_from(["", "x1", "x2", ":3", "+24", "x1+24", "x2:3+24"]))
    gain = draw(st.sampled_from(["200", "1000.0", "0", "1e-3", "2.5e3", "-200", "4.88"]))
    gain += draw(st.sampled_from(["", "(0)", "(-17)", "(12)"])) + draw(st.sampled_from(["", "/mV", "/uV", "/µV"]))
    name = draw(st.sampled_from(["I", "aVR", "lead with spaces", "V1", "ECG 1"]))
    fields = [draw(st.sampled_from(["r.dat", "r.mat", "~"])), fmt, gain, "16", *draw(st.tuples(number, number, number))]
    fields += [draw(count), name]
    return draw(st.sampled_from([" ", "\t", "  "])).join(fields[: draw(st.integers(2, len(fields)))])


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(signal_lines(), min_size=1, max_size=4),
    rest=st.sampled_from(["", " 500", " 500 5000", " 360.5 10", " 500/250(3) 99", " 500 5000 12:30:00 01/02/2003"]),
)
def test_headers_are_parsed_as_by_the_package(tmp_path, lines, rest):
    text = [f"r {len(lines)}{rest}", *lines]
    (tmp_path / "r.hea").write_text("\n".join(text), encoding="utf-8")
    theirs, ours = wfdb.rdheader(str(tmp_path / "r")), parse(text)
    for field in FIELDS:
        assert getattr(ours, field) == getattr(theirs, field), field


@pytest.mark.parametrize("lines", [[], ["r"], ["r x 500"], ["r 1 500", "???"], ["r 1 500", "r.dat 16 1e"]])
def test_what_the_grammar_does_not_allow(lines):
    with pytest.raises(ValueError, match=r"empty|syntax|could not convert"):
        parse(lines)


@pytest.mark.parametrize("offset", [0, 24])
def test_plain_files_are_read_as_by_the_package(tmp_path, offset, monkeypatch):
    x = wfdb_files.bits(300, leads=15, seed=3)
    x[7, 2] = -32768
    names = [*CANONICAL, "vx", "vy", "vz"]
    (tmp_path / "r.dat").write_bytes(bytes(offset) + x[:, :9].astype("<i2").tobytes())
    (tmp_path / "r2.dat").write_bytes(x[:, 9:].astype("<i2").tobytes())
    lines = ["r 15 500 300"]
    for i, name in enumerate(names):
        file = f"r.dat 16+{offset}" if i < 9 else "r2.dat 16"
        lines.append(f"{file} {200 + i}.5({i})/mV 16 {i} {x[0, i]} {wfdb_files.checksum(x[:, i])} 0 {name}")
    (tmp_path / "r.hea").write_text("\n".join(lines))
    ours = read_recording(tmp_path / "r.hea")
    theirs = wfdb.rdrecord(str(tmp_path / "r"), channels=list(range(12))).p_signal
    np.testing.assert_array_equal(ours.signal, theirs.astype(np.float32))
    assert "checksum_mismatches" not in ours.metadata
    # The other way, for files that are not plain, gives the same.
    monkeypatch.setattr(readers_wfdb, "_is_plain", lambda *_: False)
    np.testing.assert_array_equal(read_recording(tmp_path / "r.hea").signal, ours.signal)
