"""`python -m ecgjax.prepare folder` with a recording of every format in one folder."""

import csv
import json
import shutil

import numpy as np
import pytest
import scipy.io

from ecgjax import prepare as command
from ecgjax.data.leads import CANONICAL
from ecgjax.data.store import open_store
from tests.data import wfdb_files, wild_files
from tests.data.make_wild_goldens import write_edf

for package in ("pydicom", "defusedxml", "ecgdatakit", "edfio"):
    pytest.importorskip(package, reason="the extra 'formats' is not installed")

SAMPLES = 500


def expected(seed):
    """Bits of 2.5 uV that obey the laws of the limb leads."""
    return wfdb_files.bits(SAMPLES, seed=seed).astype(int)


@pytest.fixture
def raw(tmp_path):
    """One file per format, in two folders, and a file that is damaged."""
    from pydicom.data import get_testdata_file

    one, two = tmp_path / "raw" / "one", tmp_path / "raw" / "two"
    one.mkdir(parents=True)
    two.mkdir()
    stored = [CANONICAL.index(name) for name in wild_files.STORED]
    wild_files.muse(one / "muse.xml", expected(0)[:, stored], step="2.5")
    # In steps of 5 uV, of which some values are halves.
    wild_files.cardiosoft(one / "cardiosoft.xml", expected(1) / 2)
    wild_files.aecg(one / "aecg.xml", wild_files.aecg_set(expected(2)))
    wild_files.scp(one / "scp.scp", expected(3), huffman=True, order=2)
    write_edf(one / "edf.edf", expected(4), 500.0)
    scipy.io.savemat(two / "cpsc.mat", {"ECG": {"sex": "Male", "age": 70, "data": expected(5).T * 2.5e-3}})
    np.save(two / "npy.npy", expected(6).T)
    np.savetxt(two / "csv.csv", expected(7), fmt="%d", delimiter=",", header=",".join(CANONICAL), comments="")
    scipy.io.savemat(two / "bare.mat", {"val": expected(8).T}, format="4")
    description = {"sampling_rate": 500, "microvolt_per_bit": 2.5, "leads": list(CANONICAL)}
    (two / "recordings.json").write_text(json.dumps(description))
    wfdb_files.challenge(two, "wfdb", expected(9).astype(np.int16), gain="400.0(0)")
    shutil.copy(get_testdata_file("waveform_ecg.dcm", download=False), one / "dicom.dcm")
    (two / "damaged.npy").write_bytes((two / "npy.npy").read_bytes()[:-100])
    return tmp_path / "raw"


def test_every_format_in_one_folder(raw):
    names = ["one/muse", "one/cardiosoft", "one/aecg.xml", "scp", "edf.edf", "two/cpsc.mat", "npy", "csv.csv",
             "bare.mat", "two/wfdb.mat", "dicom", "damaged"]  # fmt: skip
    labels = raw / "labels.csv"
    with open(labels, "w", newline="") as file:
        csv.writer(file).writerows(
            [("record_id", "fold", "AF"), *((name, i % 3, i % 2) for i, name in enumerate(names))]
        )
    out = raw.parent / "store"
    command.prepare([
        "folder", f"--raw={raw}", f"--labels={labels}", f"--out={out}", "--rate=500", "--max-rejected=0.1",
    ])  # fmt: skip
    store = open_store(out)
    assert store.records.record_id.tolist() == names[:-1]
    for i, name in enumerate(names[:10]):
        bits = expected(i)
        if i == 0:
            # The stored leads; those derived from them are not rounded to bits.
            one, two = bits[:, 0], bits[:, 1]
            limbs = np.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2], axis=1)
            bits = np.concatenate([limbs, bits[:, 6:]], axis=1)
        np.testing.assert_allclose(store.signal(name), bits * 2.5e-3, atol=1.3e-3, err_msg=name)
    assert store.signal("dicom").shape == (5000, 12)
    assert "damaged" in (out / "rejected.csv").read_text()
    records = store.records.set_index("record_id")
    assert records.age.to_dict() == pytest.approx(
        {"one/muse": 1.5, "one/cardiosoft": 53, "one/aecg.xml": 49, "scp": 49, "edf.edf": np.nan, "two/cpsc.mat": 70,
         "npy": np.nan, "csv.csv": np.nan, "bare.mat": np.nan, "two/wfdb.mat": np.nan, "dicom": 42}, nan_ok=True,
    )  # fmt: skip
    assert records.sex["scp"] == "female"
