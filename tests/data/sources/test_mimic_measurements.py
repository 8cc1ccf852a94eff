"""The 35 regression targets against the same rules in plain pandas, over whole tables and one ECG at a time."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax.data.sources import mimic_measurements
from ecgjax.data.sources.mimic_tables import DAYS_30, HOUR
from tests.data.sources import make_mimic
from tests.data.sources.make_mimic import labelled

BIOMETRICS = {"Height (Inches)": "height", "Weight (Lbs)": "weight", "BMI (kg/m2)": "bmi"}
LABS = {
    "NTproBNP": "ntprobnp", "Hemoglobin": "hemoglobin", "Creatinine": "creatinine", "Albumin": "albumin", "PT": "pt",
    "Hematocrit": "hematocrit", "Bilirubin, Total": "bilirubin_total", "RDW": "rdw",
}  # fmt: skip
T0 = 6_600_000_000
VITALS = ("dbp", "heartrate", "o2sat", "resprate", "sbp", "temperature")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_mimic.make(tmp_path_factory.mktemp("mimic") / "raw", samples=500)


def test_names_are_the_tasks():
    from ecgjax import tasks

    names = mimic_measurements.REGRESSION
    assert len(names) == 35
    carved = [
        [names[i] for i in tasks.TASKS[task].select(names, ["regression"] * 35)]
        for task in ("mimic_age", "mimic_biometrics", "mimic_ecg_features", "mimic_labs", "mimic_vitals")
    ]
    assert [len(part) for part in carved] == [1, 3, 7, 18, 6]
    assert tuple(name for part in carved for name in part) == names


def test_ecg_features_by_hand():
    measured = pd.DataFrame(
        {
            "rr_interval": [1000, 640, 0, 65535, 5000],
            "qrs_onset": [180, 180, 180, 180, 29999],
            "qrs_end": [280, 29999, 280, 280, 280],
            "t_end": [580, 580, 580, 580, 100],
            "p_axis": [-360, 361, 32767, 60, -361],
            "qrs_axis": [360, 0, -32768, 60, 29999],
            "t_axis": [1, 2, 3, 4, 5],
        }
    )
    found = mimic_measurements.ecg_features(measured)
    nan = np.nan
    expected = {
        "rr": [1000, 640, 0, nan, 5000],
        "qrs": [100, nan, 100, 100, nan],
        "qt": [400, 400, 400, 400, nan],
        "qtc": [400, 500, nan, nan, nan],
        "p_axis": [-360, nan, nan, 60, nan],
        "qrs_axis": [360, 0, nan, 60, nan],
        "t_axis": [1, 2, 3, 4, 5],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, err_msg=name)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.integers(-50, 50), st.integers(1, 4)), min_size=1, max_size=30),
    st.sampled_from([0.0, 0.01, 0.3, 0.5, 0.99, 1.0]),
)
def test_percentile_is_that_of_the_repeated_values(pairs, share):
    values, counts = (np.array(part) for part in zip(*pairs, strict=True))
    expected = np.quantile(np.repeat(values / 10, counts), share)
    assert mimic_measurements.percentile(values / 10, counts, share) == pytest.approx(expected, abs=1e-12)


def test_percentile_of_nothing_is_unknown():
    assert np.isnan(mimic_measurements.percentile(np.empty(0), np.empty(0, int), 0.5))


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 40)), max_size=8),
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 40)), max_size=25),
    st.integers(0, 12),
    st.sampled_from([1, 4]),
)
def test_nearest_is_the_first_of_the_nearest(ecgs, events, seconds, unit):
    offset = 4_000_000_000
    frame = pd.DataFrame(
        {
            "subject": np.array([s for s, _ in events], np.int64),
            "time": np.array([t for _, t in events], np.int64) + offset,
            "value": np.arange(len(events), dtype=float),
        }
    )
    found = mimic_measurements.nearest(
        np.array([s for s, _ in ecgs], np.int64),
        np.array([t for _, t in ecgs], np.int64) + offset,
        frame,
        seconds,
        unit,
    )
    expected = []
    for subject, when in ecgs:
        near = [
            (abs(t - when) // unit, i) for i, (s, t) in enumerate(events) if s == subject and abs(t - when) <= seconds
        ]
        expected.append(float(min(near)[1]) if near else np.nan)
    np.testing.assert_array_equal(found, expected)


def test_thirty_days_are_whole_days():
    events = pd.DataFrame({"subject": [1, 1, 2], "time": T0 + np.array([0, 26 * 3600, 0]), "value": [7.0, 8.0, 9.0]})
    when = T0 + np.array([25 * 3600, 31 * 86400 - 1, 31 * 86400])
    found = mimic_measurements.nearest(np.array([1, 2, 2]), when, events, DAYS_30, 24 * HOUR)
    np.testing.assert_array_equal(found, [8.0, 9.0, np.nan])
    # Eleven and thirteen hours are the same number of days; the first row counts.
    found = mimic_measurements.nearest(np.array([1]), T0 + np.array([13 * 3600]), events, DAYS_30, 24 * HOUR)
    np.testing.assert_array_equal(found, [7.0])


@pytest.mark.parametrize("protocol", ["default", "paper"])
def test_targets_are_those_of_the_plain_definition(made, tmp_path, protocol):
    table, labels = labelled(made.raw, tmp_path, protocol=protocol)
    classes, targets, kinds = labels.sets["all"]
    assert classes[-35:] == mimic_measurements.REGRESSION
    assert kinds[-35:] == ("regression",) * 35
    assert set(kinds[:-35]) == {"classification"}
    found = pd.DataFrame(targets, columns=classes, index=table["study_id"])
    records = made.records.set_index("study_id").loc[table["study_id"]]
    expected, limits = _expected(made, protocol)
    for quantity in (*BIOMETRICS.values(), *LABS.values(), *VITALS):
        of = dict(list(expected[quantity].dropna(subset="time").groupby("subject")))
        values = [
            _nearest(of.get(row.subject_id), pd.Timestamp(row.ecg_time), quantity in BIOMETRICS.values())
            for row in records.itertuples()
        ]
        assert np.isfinite(values).sum() > 20, quantity
        note = next(note for note in labels.notes if note.startswith(f"{quantity}: "))
        low, high = map(float, re.findall(r"trimmed to (\S+) to (\S+)", note)[0])
        assert (low, high) == pytest.approx(limits[quantity], rel=1e-5), quantity
        np.testing.assert_allclose(found[quantity], values, rtol=1e-6, err_msg=quantity)
    for quantity in set(mimic_measurements.LABS.values()) - set(LABS.values()):
        assert found[quantity].isna().all(), quantity
    masked = (records["anchor_age"] == 91).to_numpy()
    assert masked.any()
    np.testing.assert_allclose(found["age"], records["age"].where((protocol == "paper") | ~masked))
    measured = made.measurements.set_index("study_id").reindex(records.index)
    valid = measured["t_end"].between(0, 5000) & measured["qrs_onset"].between(0, 5000)
    np.testing.assert_allclose(found["qt"], (measured["t_end"] - measured["qrs_onset"]).where(valid))


def test_protocols_differ_where_the_help_says_so(made, tmp_path):
    values = {}
    for protocol in ("default", "paper"):
        table, labels = labelled(made.raw, tmp_path, protocol=protocol)
        values[protocol] = pd.DataFrame(labels.sets["all"][1], columns=labels.sets["all"][0], index=table["record_id"])
    both = values["default"].index.intersection(values["paper"].index)
    ours, theirs = (values[protocol].loc[both] for protocol in ("default", "paper"))
    differing = {name for name in ours if not np.array_equal(ours[name], theirs[name], equal_nan=True)}
    trimmed = {*BIOMETRICS.values(), *LABS.values(), *VITALS}
    assert "age" in differing
    assert differing & trimmed
    assert differing <= trimmed | {"age"}


def test_tables_can_be_done_without(made, tmp_path):
    without = "measurements,mds_ed,omr,vitalsign,labevents,chartevents"
    _, labels = labelled(made.raw, tmp_path, without=without)
    classes, targets, _ = labels.sets["all"]
    known = {name for name, values in zip(classes, targets.T, strict=True) if np.isfinite(values).any()}
    assert known == {*classes[: -35 - 16], "sex", "age"}
    assert any("without measurements, mds_ed" in note for note in labels.notes)


def _expected(made: make_mimic.Mimic, protocol: str) -> tuple[dict[str, pd.DataFrame], dict[str, tuple[float, float]]]:
    """By quantity, the values that may be attached (subject, time, value, in the order that breaks ties) and limits."""
    paper = protocol == "paper"
    records = made.records
    cohort = records[records["ecg_taken_in_ed"] & (records["all_diag_all"] != "[]")]
    everyone, kept = set(records["subject_id"]), set(cohort["subject_id"])
    training = set(cohort["subject_id"][cohort["strat_fold"] < 18])
    chart = _chart(made, kept)
    omr = made.omr[made.omr["result_name"].isin(BIOMETRICS)]
    omr = pd.DataFrame(
        {
            "subject": omr["subject_id"],
            "time": pd.to_datetime(omr["chartdate"]),
            "quantity": omr["result_name"].map(BIOMETRICS),
            "value": pd.to_numeric(omr["result_value"], errors="coerce"),
        }
    ).dropna(subset="value")
    signs = made.vitalsign.melt(["subject_id", "charttime"], list(VITALS), var_name="quantity")
    signs = signs.rename(columns={"subject_id": "subject", "charttime": "time"}).dropna(subset="value")
    labs = _labs(made, everyone, paper)
    found, limits = {}, {}
    for quantity in (*BIOMETRICS.values(), *LABS.values(), *VITALS):
        first = {**dict.fromkeys(BIOMETRICS.values(), omr), **dict.fromkeys(VITALS, signs)}.get(quantity, labs)
        values = pd.concat([part[part["quantity"] == quantity] for part in (first, chart)], ignore_index=True)
        of = values["value"] if paper else values["value"][values["subject"].isin(training)]
        low, high = of.quantile(0.01), of.quantile(0.99)
        if paper and quantity in BIOMETRICS.values():
            low = of[of <= high].quantile(0.01)
        found[quantity], limits[quantity] = values[values["value"].between(low, high)], (low, high)
    return found, limits


def _labs(made: make_mimic.Mimic, everyone: set, paper: bool) -> pd.DataFrame:
    rows = made.labevents.dropna(subset="valuenum")
    parts = []
    for label, quantity in LABS.items():
        of = rows[rows["itemid"].isin([item for item, (name, _) in make_mimic.LABS.items() if name == label])]
        of = of[of["itemid"] == of["itemid"].mode()[0]]
        if paper:
            low, high = np.percentile(of["valuenum"], [1, 99])
            of = of[of["valuenum"].between(low, high)]
        of = of[of["valueuom"] == of["valueuom"].mode()[0]]
        if paper:
            of = of[of["subject_id"].isin(everyone)]
        parts.append(
            pd.DataFrame(
                {"subject": of["subject_id"], "time": of["storetime"], "quantity": quantity, "value": of["valuenum"]}
            )
        )
    return pd.concat(parts)


def _chart(made: make_mimic.Mimic, kept: set) -> pd.DataFrame:
    rows = made.chartevents[made.chartevents["subject_id"].isin(kept)]
    label = rows["itemid"].map({item: entry[0] for item, entry in make_mimic.CHART.items()})
    numbers = label.value_counts()
    assert numbers["Height (cm)"] < 1000 < numbers["Height"]
    names = {
        "Height": "height", "Height (cm)": "height", "Daily Weight": "weight", "Admission Weight (Kg)": "weight",
        "Temperature Celsius": "temperature", "Temperature Fahrenheit": "temperature", "Heart Rate": "heartrate",
        "Respiratory Rate": "resprate", "O2 saturation pulseoxymetry": "o2sat", "Albumin": "albumin",
        "Total Bilirubin": "bilirubin_total", "Creatinine (serum)": "creatinine", "Hematocrit (serum)": "hematocrit",
        "Hemoglobin": "hemoglobin",
    }  # fmt: skip
    value = rows["valuenum"].copy()
    kilograms = label.isin(["Daily Weight", "Admission Weight (Kg)"])
    value[kilograms] = value[kilograms] * 2.20462
    value[label == "Temperature Celsius"] = value[label == "Temperature Celsius"] * 9 / 5 + 32
    unit = label.isin(["Albumin", "Total Bilirubin", "Hematocrit (serum)", "Creatinine (serum)"]) | kilograms
    frame = pd.DataFrame(
        {"subject": rows["subject_id"], "time": rows["storetime"], "quantity": label.map(names), "value": value}
    )
    common = label.map(numbers) >= 1000
    return frame[common & ~(unit & rows["valueuom"].isna()) & value.notna()].dropna(subset="quantity")


def _nearest(mine: pd.DataFrame | None, when: pd.Timestamp, biometric: bool) -> float:
    if mine is None:
        return np.nan
    distance = (mine["time"] - when).abs()
    if biometric:
        distance = distance.dt.days
        near = distance[distance <= 30]
    else:
        near = distance[distance <= pd.Timedelta(hours=1)]
    return float(mine["value"][near.idxmin()]) if len(near) else np.nan
