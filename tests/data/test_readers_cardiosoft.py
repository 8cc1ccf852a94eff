"""GE CardioSoft XML, made by hand; a genuine file where the ecgprocess package or ECGJAX_WILD has one."""

import re

import numpy as np
import pytest

from ecgjax.data.leads import CANONICAL
from ecgjax.data.readers import read_recording
from ecgjax.errors import UserError
from tests.data import wfdb_files, wild_files
from tests.data.wild_folder import wild_file

pytest.importorskip("defusedxml", reason="the extra 'formats' is not installed")


def test_strip(tmp_path):
    bits = wfdb_files.bits()
    names = tuple(reversed(CANONICAL))
    path = wild_files.cardiosoft(tmp_path / "x.xml", bits[:, ::-1], names=names, disclosure=bits[:50])
    recording = read_recording(path)
    np.testing.assert_allclose(recording.signal, bits * 5e-3, atol=1e-6)
    assert recording.sampling_rate == 500
    assert recording.microvolt_per_bit == 5
    assert recording.derived == recording.missing == ()
    assert recording.metadata == {
        "manufacturer": "GE",
        "device": "CardioSoft",
        "age": 53,
        "sex": "male",
        "statements": ["Gerätebefund: normal"],
        "measurements": {"QRSDuration": {"value": 92, "unit": "ms"}},
    }


def test_full_disclosure_if_there_is_no_strip(tmp_path):
    bits = wfdb_files.bits()
    path = wild_files.cardiosoft(tmp_path / "x.xml", bits, strip=False, disclosure=bits)
    np.testing.assert_allclose(read_recording(path).signal, bits * 5e-3, atol=1e-6)
    path.write_text(path.read_text(encoding="iso-8859-1").replace("Total>2400", "Total>2401"), encoding="iso-8859-1")
    with pytest.raises(UserError, match=r"x\.xml: damaged, FullDisclosureData has 2400 values; expected 2401"):
        read_recording(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("StripData", "Strip", r"x\.xml: neither StripData nor FullDisclosure"),
        ("uVperLsb", "mVperLsb", r"Resolution '5' mVperLsb; expected a number of uVperLsb"),
        ('<Resolution units="uVperLsb">5</Resolution>', "", r"Resolution ''"),
        ('"Hz">500', '"kHz">5', r"SampleRate '5' kHz; expected a number of Hz"),
        ("Total>200<", "Total>20000000000<", r"damaged, lead 'I' has 200 samples; expected 2e\+10"),
        ('lead="V1"', 'lead="V2"', r"lead V2 is there twice"),
        ("\t\n", "\t\none,", r"lead 'I': could not convert .*expected numbers"),
    ],
)
def test_refused(tmp_path, old, new, message):
    path = wild_files.cardiosoft(tmp_path / "x.xml", wfdb_files.bits())
    text = path.read_text(encoding="iso-8859-1")
    assert old in text
    path.write_text(text.replace(old, new), encoding="iso-8859-1")
    with pytest.raises(UserError, match=message):
        read_recording(path)


def test_genuine_file():
    path = wild_file("example-XML1.xml")
    recording = read_recording(path)
    assert recording.signal.shape == (5000, 12)
    assert recording.sampling_rate == 500
    assert recording.microvolt_per_bit == 5
    # An independent reading: every number of the strip, by a regular expression.
    strip = path.read_text(encoding="latin-1").partition("<StripData>")[2].partition("</StripData>")[0]
    for name, values in re.findall(r'<WaveformData lead="(\w+)">([^<]*)<', strip):
        expected = np.array([int(value) for value in values.split(",") if value.strip()]) * 5e-3
        np.testing.assert_allclose(recording.signal[:, CANONICAL.index(name)], expected, atol=1e-6)
    one, two, three = recording.signal[:, :3].T
    assert np.abs(one + three - two).max() <= 5e-3 + 1e-6
    assert (recording.metadata["age"], recording.metadata["sex"]) == (53, "male")
    assert recording.metadata["statements"][:2] == ["Sinus bradycardia", "Otherwise normal ECG"]
    assert recording.metadata["measurements"]["QRSDuration"] == {"value": 92, "unit": "ms"}
