"""The list of sources: every name loads, a misspelt one is told which was meant, and the facts are those published."""

import pytest

from ecgjax import tasks
from ecgjax.data import sources
from ecgjax.errors import UserError

# datasets.md, sections 3 and 8: version, licence, sampling rate, records. Of EchoNext the three splits, of ZZU pECG the
# records with twelve leads; what is prepared of MIMIC and HEEDB depends on the options.
PUBLISHED = {
    "ptbxl": ("1.0.3", "CC BY 4.0", 500, 21_799),
    "ptb": ("1.0.0", "ODC-By 1.0", 1000, 549),
    "sph": ("figshare 5779802 v1", "CC BY 4.0", 500, 25_770),
    "chapman": ("figshare 4560497 v2", "CC0 1.0", 500, 10_646),
    "ningbo": ("1.0.3", "CC BY 4.0", 500, 34_905),
    "cpsc2018": ("1.0.3", "CC BY 4.0", 500, 6_877),
    "cpsc_extra": ("1.0.3", "CC BY 4.0", 500, 3_453),
    "georgia": ("1.0.3", "CC BY 4.0", 500, 10_344),
    "code15": ("1.0.0", "CC BY 4.0", 400, 345_779),
    "code_test": ("1.0.3", "CC BY 4.0", 400, 827),
    "echonext": ("1.1.0", "PhysioNet Restricted Health Data License 1.5.0", 250, 72_475 + 4_626 + 5_442),
    "zzu_pecg": ("figshare 27078763 v1", "CC BY 4.0", 500, 12_334),
    "mimic": ("1.0", None, 500, None),
    "heedb": ("4.0", None, 240, None),
}
COUNTS = {
    "ptbxl": ("super", {"NORM": 9514, "MI": 5469, "STTC": 5235, "CD": 4898, "HYP": 2649}),
    "cpsc2018": (
        "all",
        {
            "sinus rhythm": 918,
            "atrial fibrillation": 1221,
            "1st degree av block": 722,
            "left bundle branch block": 236,
            "right bundle branch block": 1857,
            "premature atrial contraction": 616,
            "ventricular ectopics": 700,
            "st depression": 869,
            "st elevation": 220,
        },
    ),
    "chapman": (
        "rhythm",  # without AVRT, 8, and SAAWR, 7, which are too rare for a class
        {
            "SB": 3889,
            "SR": 1826,
            "AFIB": 1780,
            "ST": 1568,
            "SVT": 587,
            "AF": 445,
            "SA": 399,
            "AT": 121,
            "AVNRT": 16,
        },
    ),
    "code_test": ("all", {"STACH": 37, "RBBB": 34, "LBBB": 30, "1AVB": 28, "SBRAD": 16, "AFIB": 13}),
}


def test_every_data_set_of_the_benchmark_is_a_source() -> None:
    assert set(PUBLISHED) | {"folder", "synthetic"} == set(sources.names())
    assert {run.source for run in tasks.RUNS.values()} <= set(sources.names())
    assert all(sources.load(name).FACTS.name == name for name in sources.names() if name != "synthetic")


@pytest.mark.parametrize("name", PUBLISHED)
def test_facts(name: str) -> None:
    facts = sources.load(name).FACTS
    version, licence, rate, records = PUBLISHED[name]
    assert (facts.version, facts.sampling_rate, facts.records) == (version, rate, records)
    assert licence in (None, facts.licence)
    assert facts.origins
    assert facts.title


@pytest.mark.parametrize("name", COUNTS)
def test_published_counts(name: str) -> None:
    label_set, counts = COUNTS[name]
    assert dict(sources.load(name).FACTS.published[label_set]) == counts


@pytest.mark.parametrize(("name", "classes"), [("ningbo", 68), ("cpsc_extra", 33), ("georgia", 50)])
def test_as_many_classes_are_published_as_the_benchmark_has(name: str, classes: int) -> None:
    published = sources.load(name).FACTS.published["all"]
    assert len(published) == classes
    assert min(published.values()) >= 10


def test_help_of_every_source_says_how_to_call_it() -> None:
    for name in sources.names():
        assert f"python -m ecgjax.prepare {name}" in (sources.load(name).__doc__ or "")


@pytest.mark.parametrize(
    ("name", "meant"), [("ptb-xl", "ptbxl"), ("cpsc-extra", "cpsc_extra"), ("echnoext", "echonext")]
)
def test_a_misspelt_source(name: str, meant: str) -> None:
    with pytest.raises(UserError, match=rf"no source '{name}' \(did you mean '{meant}'\?\); expected one of ptbxl, "):
        sources.load(name)
