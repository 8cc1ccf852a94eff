"""The synthetic recordings are what their labels say, by measurements that know nothing of the generator."""

import time

import numpy as np
import pytest
import wfdb.processing

from ecgjax.data.simulation.heart import draw_heart
from ecgjax.data.sources import synthetic
from ecgjax.data.sources.synthetic import CLASSES, Annotations, complete, draw_chronic, draw_conditions, synthesize

RATE = 500
LEAD_I, II, III, AVR, AVL, AVF, V1, V2, V3, _, _, V6 = range(12)
INDEPENDENT = [0, 1, *range(6, 12)]


def make(condition: str, seed: int) -> tuple[np.ndarray, Annotations]:
    return synthesize([condition], np.random.default_rng(seed))


@pytest.fixture
def quiet(monkeypatch):
    """No disturbance: morphology can then be measured to the millisecond."""
    monkeypatch.setattr(synthetic, "disturbance", lambda rng, samples, rate, **rest: np.zeros((samples, 8)))


def find_beats(signal: np.ndarray) -> np.ndarray:
    """QRS times (s) by wfdb's detector on lead II, or V2 where that is larger."""
    lead = max((II, V2), key=lambda k: np.ptp(signal[:, k]))
    return wfdb.processing.xqrs_detect(signal[:, lead].astype(float), RATE, verbose=False) / RATE


def qrs_limits(signal: np.ndarray, near: float) -> tuple[float, float]:
    """Onset and end (s) of a complex: where the spatial velocity of eight leads stays below 6 mV/s for 16 ms."""
    speed = np.sqrt((np.gradient(signal[:, INDEPENDENT], 1 / RATE, axis=0) ** 2).sum(axis=1))
    first = max(round(near * RATE) - 20, 8)
    begin = end = first + int(speed[first : first + 100].argmax())
    while begin > 8 and not (speed[begin - 8 : begin] < 6).all():
        begin -= 1
    while end < len(speed) - 9 and not (speed[end + 1 : end + 9] < 6).all():
        end += 1
    return begin / RATE, end / RATE


def mean_beat(signal: np.ndarray, onsets: np.ndarray, before: float = 0.35, after: float = 0.5) -> np.ndarray:
    """Average over beats, (samples, 12), baseline taken just before QRS; QRS begins at sample `before * RATE`."""
    starts = [round((t - before) * RATE) for t in onsets if t - before > 0 and t + after < len(signal) / RATE]
    beat = np.mean([signal[s : s + round((before + after) * RATE)] for s in starts], axis=0)
    at = round(before * RATE)
    return beat - beat[at - 8 : at - 3].mean(axis=0)


def test_leads_obey_einthoven_and_goldberger():
    x = make("WANDER", 1)[0].astype(np.float64)
    assert x.shape == (5000, 12)
    np.testing.assert_allclose(x[:, II] - x[:, LEAD_I], x[:, III], atol=1e-6)
    np.testing.assert_allclose(x[:, AVR], -(x[:, LEAD_I] + x[:, II]) / 2, atol=1e-6)
    np.testing.assert_allclose(x[:, AVL], (x[:, LEAD_I] - x[:, III]) / 2, atol=1e-6)
    np.testing.assert_allclose(x[:, AVF], (x[:, II] + x[:, III]) / 2, atol=1e-6)


def test_same_seed_same_recording_other_seed_another():
    first, again, other = make("AFIB", 3)[0], make("AFIB", 3)[0], make("AFIB", 4)[0]
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_sampling_rate_and_length_are_those_asked_for():
    slow, annotations = synthesize([], np.random.default_rng(0), sampling_rate=250, seconds=12)
    assert slow.shape == (3000, 12)
    assert 10 < annotations.beats[-1] < 12


def test_complete_adds_what_follows():
    assert complete([]) == ("NORM", "SR")
    assert complete(["MAINS"]) == ("NORM", "SR", "MAINS")
    assert complete(["CRBBB", "AFIB"]) == ("AFIB", "CRBBB")
    assert complete(["PVC"]) == ("SR", "PVC")


@pytest.mark.parametrize(
    "pair", [("AFIB", "1AVB"), ("CLBBB", "CRBBB"), ("SBRAD", "STACH"), ("NORM", "PVC"), ("CLBBB", "STE_INF")]
)
def test_conditions_that_exclude_each_other_are_refused(pair):
    with pytest.raises(ValueError, match=pair[1]):
        complete(pair)


def test_unknown_condition_is_named():
    with pytest.raises(ValueError, match="'VT'"):
        synthesize(["VT"], np.random.default_rng(0))


def test_every_class_is_drawn_often_enough_to_learn_and_none_always():
    rng = np.random.default_rng(0)
    drawn = [draw_conditions(rng, draw_chronic(rng)) for _ in range(2000)]
    share = {name: np.mean([name in labels for labels in drawn]) for name in CLASSES}
    assert min(share.values()) > 0.06, share
    assert max(share.values()) < 0.7, share
    assert np.mean([len(set(labels) - {"SR", "NORM"}) > 1 for labels in drawn]) > 0.2  # combinations are common


@pytest.mark.parametrize(("rhythm", "low", "high"), [("SR", 60, 100), ("SBRAD", 35, 60), ("STACH", 100, 160)])
def test_measured_rate_is_what_the_rhythm_says(rhythm, low, high):
    for seed in range(4):
        signal, annotations = make(rhythm, seed)
        beats = find_beats(signal)
        rate = 60 * (len(beats) - 1) / (beats[-1] - beats[0])
        assert low - 2 < rate < high + 2
        assert abs(rate - annotations.heart_rate) < 0.04 * rate


def test_atrial_fibrillation_is_irregular_without_p_and_with_f_waves(quiet):
    spread, p = {"AFIB": [], "SR": []}, {"AFIB": [], "SR": []}
    for rhythm in spread:
        for seed in range(8):
            signal, annotations = make(rhythm, seed)
            intervals = np.diff(find_beats(signal))
            spread[rhythm].append(np.abs(np.diff(intervals)).mean() / intervals.mean())
            p[rhythm].append(np.ptp(mean_beat(signal, annotations.beats)[75:165, II]))
    assert np.median(spread["AFIB"]) > 0.12 > 0.09 > np.median(spread["SR"])
    assert np.median(p["AFIB"]) < 0.6 * np.median(p["SR"])


def test_f_waves_oscillate_at_4_to_9_hz(quiet):
    hertz = np.arange(2, 15)
    for seed in range(4):
        signal, annotations = make("AFIB", seed)
        pause = int(np.diff(annotations.beats).argmax())  # the longest stretch without QRS or T
        begin, end = annotations.beats[pause] + 0.46, annotations.beats[pause + 1] - 0.02
        x = signal[round(begin * RATE) : round(end * RATE), V1]
        assert len(x) > 0.25 * RATE
        waves = np.exp(-2j * np.pi * hertz[:, None] * np.arange(len(x)) / RATE)
        assert 4 <= hertz[np.abs(waves @ ((x - x.mean()) * np.hanning(len(x)))).argmax()] <= 9


def test_measured_qrs_agrees_and_is_wide_in_bundle_branch_block_only(quiet):
    width, truth = {}, {}
    for condition in ("NORM", "CLBBB", "CRBBB"):
        records = [make(condition, seed) for seed in range(10)]
        width[condition] = [
            1000 * np.median([np.subtract(*qrs_limits(signal, t)[::-1]) for t in found.beats[1:-1]])
            for signal, found in records
        ]
        truth[condition] = [found.qrs for _, found in records]
    assert min(width["NORM"]) > 70
    assert np.median(width["NORM"]) < 105
    assert max(truth["NORM"]) < 120
    assert np.median(width["CLBBB"]) >= 120
    assert min(width["CRBBB"]) >= 120
    np.testing.assert_allclose(width["NORM"], truth["NORM"], atol=10)
    np.testing.assert_allclose(width["CRBBB"], truth["CRBBB"], atol=14)


def test_measured_pr_agrees_and_exceeds_200_ms_in_first_degree_block_only(quiet):
    for conditions in (("SBRAD",), ("SBRAD", "1AVB")):  # slow, so that P stands alone
        for seed in range(6):
            signal, annotations = synthesize(conditions, np.random.default_rng(seed))
            beat = mean_beat(signal, annotations.beats[1:], before=0.42)[:210, INDEPENDENT]
            size = np.linalg.norm(beat - beat[:8].mean(axis=0), axis=1)
            onset = np.flatnonzero(size > 0.08 * size[:195].max())[0]
            measured = 1000 * (210 - onset) / RATE
            assert abs(measured - annotations.pr) < 20
            assert (annotations.pr > 200) == ("1AVB" in conditions)


def test_left_bundle_branch_block_looks_it(quiet):
    for seed in range(6):
        signal, annotations = make("CLBBB", seed)
        beat = mean_beat(signal, annotations.beats)
        qrs, late = beat[175 : 175 + round(annotations.qrs / 2)], beat[175 + round(annotations.qrs / 2) + 50 :]
        assert -qrs[:, V1].min() > 3 * qrs[:, V1].max()  # QS or rS
        assert qrs[:, V6].max() > 0.3  # broad R
        assert qrs[:, V6].min() > -0.12 * qrs[:, V6].max()  # no q, no S
        assert late[:, V1].max() > 0.1  # T against QRS
        assert late[:, V6].min() < -0.1


def test_right_bundle_branch_block_looks_it(quiet):
    for seed in range(6):
        signal, annotations = make("CRBBB", seed)
        beat = mean_beat(signal, annotations.beats)
        final = beat[175 + 45 : 175 + round(annotations.qrs / 2) - 3]
        assert final[:, V1].max() > 0.25  # R'
        assert final[:, V6].min() < -0.1  # wide S
        assert final[:, LEAD_I].min() < -0.05


@pytest.mark.parametrize(
    ("condition", "raised", "lowered"), [("STE_ANT", [V2, V3], [III]), ("STE_INF", [II, III, AVF], [AVL, LEAD_I])]
)
def test_st_elevation_is_in_its_territory_with_reciprocal_depression(quiet, condition, raised, lowered):
    levels = {}
    for name in (condition, "NORM"):
        beats = [(mean_beat(signal, found.beats), found) for signal, found in (make(name, seed) for seed in range(8))]
        levels[name] = np.array([beat[175 + round(found.qrs / 2) + 20] for beat, found in beats])  # J + 40 ms
    assert (levels[condition][:, raised] > 0.07).all()
    assert np.median(levels[condition][:, raised]) > 0.12
    assert (np.median(levels[condition][:, lowered], axis=0) < -0.01).all()
    assert np.median(np.abs(levels["NORM"])) < 0.03


def test_premature_beats_are_wide_early_and_followed_by_a_compensatory_pause(quiet):
    seen = 0
    for seed in range(8):
        signal, annotations = make("PVC", seed)
        assert annotations.ectopic.any()
        for k in np.flatnonzero(annotations.ectopic):
            if 1 <= k < len(annotations.beats) - 1 and not annotations.ectopic[k - 1 : k + 2 : 2].any():
                onsets = [qrs_limits(signal, t)[0] for t in annotations.beats[k - 1 : k + 2]]
                before, after = np.diff(onsets)
                normal = 60 / annotations.heart_rate
                assert before < 0.9 * normal < 1.1 * normal < after
                assert abs(before + after - 2 * normal) < 0.2 * normal
                begin, end = qrs_limits(signal, annotations.beats[k])
                assert end - begin > 0.11
                seen += 1
    assert seen >= 6


def power(signal: np.ndarray, low: float, high: float) -> float:
    spectrum = np.abs(np.fft.rfft(signal[:, INDEPENDENT] - signal[:, INDEPENDENT].mean(axis=0), axis=0)) ** 2
    frequency = np.fft.rfftfreq(len(signal), 1 / RATE)
    return float(spectrum[(frequency >= low) & (frequency < high)].sum())


@pytest.mark.parametrize(
    ("condition", "low", "high"), [("MUSCLE", 70, 110), ("MAINS", 49.5, 60.5), ("WANDER", 0.0, 0.45)]
)
def test_disturbances_lie_in_their_band(condition, low, high):
    ratios = [power(make(condition, seed)[0], low, high) / power(make("NORM", seed)[0], low, high) for seed in range(8)]
    assert np.median(ratios) > 8


def test_recordings_of_one_patient_resemble_each_other_more_than_other_patients(quiet):
    def beat(patient: int, seed: int) -> np.ndarray:
        heart = draw_heart(np.random.default_rng(patient))
        signal, found = synthesize([], np.random.default_rng(100 + seed), heart=heart)
        return mean_beat(signal, found.beats, before=0.05, after=0.15).ravel()

    same = [np.corrcoef(beat(p, p), beat(p, p + 50))[0, 1] for p in range(6)]
    other = [np.corrcoef(beat(p, p), beat(p + 1, p + 50))[0, 1] for p in range(6)]
    assert min(same) > 0.97
    assert np.median(other) < 0.95


def test_a_hundred_records_a_second():
    rng = np.random.default_rng(0)
    begin = time.process_time()
    for _ in range(60):
        synthesize(draw_conditions(rng), rng)
    assert 60 / (time.process_time() - begin) > 50  # 200 on a quiet core; half of what is promised, for busy machines
