"""The table of terms: the shipped rows against sources and publications, an own check of codes, rows of one's own."""

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgjax.data import sources, terms
from ecgjax.data.recording import Recording
from ecgjax.data.sources import challenge_mapping, synthetic
from ecgjax.data.store import open_store
from ecgjax.data.store_writer import StoreWriter
from ecgjax.errors import UserError

REAL = os.environ.get("ECGJAX_REAL")
HEADER = ",".join(terms.COLUMNS)


@pytest.fixture(scope="module")
def rows():
    return terms.load()


def by_label(rows, source, label_set="all"):
    return {row.label: row for row in rows if (row.source, row.label_set) == (source, label_set)}


def write(path, *lines):
    path.write_text("\n".join((HEADER, *lines)) + "\n")
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Georgia with five records: labels of all kinds of rows, and one that the table does not know."""
    path = tmp_path_factory.mktemp("stores") / "georgia"
    labels = (
        "left atrial abnormality", "left atrial enlargement", "right bundle branch block",
        "complete right bundle branch block", "something else",
    )  # fmt: skip
    targets = np.array(
        [[0, 0, 0, 0, 1], [1, 0, 1, 0, 0], [0, 1, 0, 1, 0], [1, 1, np.nan, 1, 0], [0, np.nan, np.nan, 0, 0]], np.float32
    )
    with StoreWriter(path, source="georgia", sampling_rate=100.0) as writer:
        for k in range(5):
            writer.add(Recording(f"E{k:05d}", np.zeros((10, 12), np.float32), 100.0), patient_id=f"{k}", fold=k)
        kinds = ("classification",) * 5
        measured = (("rate",), np.ones((5, 1), np.float32), ("regression",))
        writer.finish({"all": (labels, targets, kinds), "measurements": measured})
    return open_store(path)


def test_every_label_is_one_that_its_source_declares(rows):
    terms.check_labels(rows)
    sets = {(row.source, row.label_set) for row in rows}
    assert {source for source, _ in sets} <= set(sources.names())
    declaring = {place for place in sets if terms.declared(*place)}
    assert declaring == {
        ("cpsc2018", "all"), ("cpsc_extra", "all"), ("georgia", "all"), ("ningbo", "all"), ("code_test", "all"),
        ("ptbxl", "super"),
    }  # fmt: skip
    for source in ("cpsc2018", "cpsc_extra", "georgia", "ningbo", "code_test"):
        assert set(by_label(rows, source)) == set(terms.declared(source, "all"))


def test_the_pairs_of_the_challenge_are_one_term(rows):
    """dx_mapping_scored.csv: "We score 713427006 and 59118001 as the same diagnosis" and so on."""
    for source, complete, plain, term in (
        ("ningbo", "CRBBB", "RBBB", "RBBB"),
        ("georgia", "complete right bundle branch block", "right bundle branch block", "RBBB"),
        ("cpsc_extra", "supraventricular premature beats", "premature atrial contraction", "PAC"),
    ):
        own = by_label(rows, source)
        assert own[complete].term == own[plain].term == term
        assert "dx_mapping_scored.csv" in own[complete].provenance
    georgia = by_label(rows, "georgia")
    assert georgia["ventricular ectopic beats"].term == by_label(rows, "ningbo")["PVC"].term == "PVC"
    assert by_label(rows, "ningbo")["CLBBB"].term == georgia["left bundle branch block"].term == "LBBB"


def test_sources_meet_in_the_same_terms(rows):
    """AHA codes connect SPH and ZZU with PTB-XL, whose scp_statements.csv has them, and this with the Challenge."""
    atrial_fibrillation = {
        ("ptbxl", "AFIB"), ("cpsc2018", "atrial fibrillation"), ("cpsc_extra", "atrial fibrillation"),
        ("georgia", "atrial fibrillation"), ("chapman", "AFIB"), ("code15", "AFIB"), ("code_test", "AFIB"),
        ("sph", "50"), ("zzu_pecg", "Atrial fibrillation"), ("synthetic", "AFIB"),
    }  # fmt: skip
    assert {(row.source, row.label) for row in rows if row.term == "AF"} == atrial_fibrillation
    assert {row.label for row in rows if row.term == "NORM" and row.source in ("sph", "zzu_pecg")} == {
        "1",
        "Normal ECG",
    }
    assert by_label(rows, "chapman")["AF"].term == "AFL"  # flutter there
    assert by_label(rows, "ningbo")["AF"].exactness == "broader"


def test_the_embedded_data_have_terms(rows):
    assert set(by_label(rows, "synthetic")) == set(synthetic.CLASSES) - set(synthetic.LABEL_SETS["quality"])


def test_judgement_is_marked_as_such(rows):
    assert Counter(row.exactness for row in rows) == {"exact": 346, "narrower": 35, "broader": 7, "judgement": 20}
    assert by_label(rows, "cpsc2018")["sinus rhythm"].exactness == "judgement"
    for row in rows:
        assert row.exactness != "exact" or row.provenance


@pytest.mark.skipif(not REAL, reason="set ECGJAX_REAL to a folder with genuine recordings")
def test_codes_are_those_of_the_genuine_workbook(rows):
    workbook = Path(REAL, "challenge2021", "Label mappings 2021.xlsx")
    one = {"733534002": "164909002", "713427006": "59118001", "63593006": "284470004", "17338001": "427172004"}
    sheets = {"cpsc2018": "CPSC", "cpsc_extra": "CPSC-Extra", "georgia": "G12EC", "ningbo": "Ningbo"}
    for source, sheet in sheets.items():
        codes = {}
        for code, name in challenge_mapping.read(workbook, sheet).items():
            codes.setdefault(name, one.get(code, code))
        different = {
            label: (row.snomed, codes.get(label))
            for label, row in by_label(rows, source).items()
            if row.exactness == "exact" and codes.get(label) != row.snomed
        }
        # PVC is CPSC2018's own name of what the workbook codes as ectopics; ARH is not in the workbook.
        expected = {"cpsc2018": {"ventricular ectopics"}, "ningbo": {"ARH"}}.get(source, set())
        assert set(different) == expected, different


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x,all,A,T,164889003,name,exact,", "line 2: column provenance is empty"),
        (",all,A,T,164889003,name,exact,p", "line 2: column source is empty"),
        ("x,all,A,T,164889003,name,sure,p", "line 2: column exactness: 'sure'"),
        ("x,all,A,T,164889004,name,exact,p", "line 2: column snomed: '164889004'"),
        ("x,all,A,T,name,exact,p", "line 2: 7 cells; expected 8"),
        ("x,all,A,AF,426783006,atrial fibrillation,exact,p", "line 2: column snomed: '426783006' for term AF; expect"),
        ("x,all,A,AF,164889003,fibrillation,exact,p", "line 2: column name: 'fibrillation' for term AF"),
        ("x,all,A,OWN,164889003,atrial fibrillation,exact,p", "line 2: column snomed: 164889003 is AF in "),
        ("georgia,all,sinus brady,SB,426177001,sinus bradycardia,exact,p", "line 2: column label: georgia, label set"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named(tmp_path, line, message):
    path = write(tmp_path / "own.csv", line)
    with pytest.raises(UserError) as error:
        terms.check_labels(terms.load(path))
    assert f"{path}: {message}" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_label_has_one_term(tmp_path):
    path = write(tmp_path / "own.csv", "x,all,A,T,,t,exact,p", "x,all,B,T,,t,exact,p", "x,all,A,U,,u,exact,p")
    with pytest.raises(UserError, match=r"line 4: column label: 'A' of x, all, has a row already \(line 2: T\)"):
        terms.load(path)


def test_other_columns_and_no_file_are_refused(tmp_path):
    (tmp_path / "own.csv").write_text("source,label\n")
    with pytest.raises(UserError, match="columns source, label; expected source, label_set"):
        terms.load(tmp_path / "own.csv")
    with pytest.raises(UserError, match=r"none.csv: cannot be read"):
        terms.load(tmp_path / "none.csv")


def test_own_rows_come_before_the_shipped_ones(tmp_path, rows):
    path = write(
        tmp_path / "own.csv",
        "georgia,all,sinus rhythm,NORM,,normal ECG,judgement,us",
        "georgia,all,st elevation,,,,,",
        "ours,all,1,AF,164889003,atrial fibrillation,exact,us",
    )
    found = by_label(terms.load(path), "georgia")
    assert found["sinus rhythm"].term == "NORM"
    assert "st elevation" not in found
    assert len(found) == len(by_label(rows, "georgia")) - 1
    assert {row.source for row in terms.load(path, alone=True)} == {"georgia", "ours"}


def test_columns_in_another_order_are_the_same_table(tmp_path):
    (tmp_path / "own.csv").write_text(
        "term,source,label_set,label,provenance,exactness,name,snomed\n"
        "AF,x,all,a,us,exact,atrial fibrillation,164889003\n"
    )
    (row,) = terms.load(tmp_path / "own.csv", alone=True)
    assert (row.label, row.term, row.snomed) == ("a", "AF", "164889003")


def test_targets_are_unions_and_doubt_is_unknown(store, rows):
    found = terms.apply(rows, "there", store, "all", ("exact", "narrower"))
    assert found.terms == ("LAE", "RBBB")
    # "left atrial abnormality" is a judgement: where it stands alone, enlargement is not known.
    np.testing.assert_array_equal(found.targets[:, 0], [0, np.nan, 1, 1, np.nan])
    np.testing.assert_array_equal(found.targets[:, 1], [0, 1, 1, 1, np.nan])
    assert found.used["RBBB"] == ("right bundle branch block", "complete right bundle branch block")
    assert found.doubtful == {"LAE": ("left atrial abnormality",)}
    assert found.unmapped == ("something else",)
    assert "sinus rhythm" in found.absent
    judged = terms.apply(rows, "there", store, "all", terms.EXACTNESS)
    np.testing.assert_array_equal(judged.targets[:, 0], [0, 1, 1, 1, np.nan])


def test_rows_of_a_stores_own_name_come_first(tmp_path, store):
    path = write(tmp_path / "own.csv", "there,all,something else,AF,164889003,atrial fibrillation,exact,us")
    rows = terms.load(path)
    assert terms.apply(rows, "there", store, "all", ("exact",)).terms == ("AF",)
    assert terms.apply(rows, "elsewhere", store, "all", ("exact",)).terms == ("LAE", "RBBB")
    assert terms.label_set_of(rows, "there", store, None) == "all"


def test_label_sets_and_stores_without_rows_are_refused(store, rows):
    with pytest.raises(UserError, match=r"label set 'measurements' has rows .* expected one of all;"):
        terms.label_set_of(rows, "there", store, "measurements")
    with pytest.raises(UserError, match="none of its 5 labels has a term of exactness broader"):
        terms.apply(rows, "there", store, "all", ("broader",))
    own = terms.load(write(store.path.parent / "own.csv", "x,all,A,T,,t,exact,p"), alone=True)
    with pytest.raises(UserError, match=r"no label set has rows in the table of terms for source 'georgia'.*\(none\)"):
        terms.label_set_of(own, "there", store, None)


def test_a_label_that_only_the_store_has_may_be_mapped(tmp_path, store):
    rows = terms.load(
        write(tmp_path / "own.csv", "georgia,all,something else,AF,164889003,atrial fibrillation,exact,us")
    )
    with pytest.raises(UserError, match="has no class 'something else'"):
        terms.check_labels(rows)
    terms.check_labels(rows, [("there", store)])


# The table of D5 and the permutation as Verhoeff published them, for an own computation.
_TABLE = json.loads(
    "[[0,1,2,3,4,5,6,7,8,9],[1,2,3,4,0,6,7,8,9,5],[2,3,4,0,1,7,8,9,5,6],[3,4,0,1,2,8,9,5,6,7],[4,0,1,2,3,9,5,6,7,8],"
    "[5,9,8,7,6,0,4,3,2,1],[6,5,9,8,7,1,0,4,3,2],[7,6,5,9,8,2,1,0,4,3],[8,7,6,5,9,3,2,1,0,4],[9,8,7,6,5,4,3,2,1,0]]"
)
_PERMUTED = json.loads(
    "[[0,1,2,3,4,5,6,7,8,9],[1,5,7,6,2,8,3,0,9,4],[5,8,0,3,7,9,6,1,4,2],[8,9,1,6,0,4,3,5,2,7],[9,4,5,3,1,2,6,8,7,0],"
    "[4,2,8,6,5,7,3,9,0,1],[2,7,9,3,8,0,6,4,1,5],[7,0,4,6,9,1,3,2,5,8]]"
)


@given(st.integers(10**5, 10**17).map(str))
def test_check_digits(code):
    total = 0
    for place, digit in enumerate(reversed(code)):
        total = _TABLE[total][_PERMUTED[place % 8][int(digit)]]
    assert terms.is_snomed(code) == (total == 0)


@given(st.sampled_from(("164889003", "67741000119109", "426783006")), st.data())
def test_one_wrong_digit_and_two_exchanged_ones_are_noticed(code, data):
    place = data.draw(st.integers(0, len(code) - 2))
    other = data.draw(st.sampled_from([d for d in "0123456789" if d != code[place]]))
    assert terms.is_snomed(code)
    assert not terms.is_snomed(code[:place] + other + code[place + 1 :])
    swapped = code[:place] + code[place + 1] + code[place] + code[place + 2 :]
    assert swapped == code or not terms.is_snomed(swapped)


@pytest.mark.parametrize("text", ["", "12345", "1" * 19, "16488900x", "١٦٤٨٨٩٠٠٣"])
def test_no_codes(text):
    assert not terms.is_snomed(text)
