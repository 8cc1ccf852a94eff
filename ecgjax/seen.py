"""Which data sources a released foundation model saw in pretraining, so that results on them can say so.

From the models' papers and repositories: ECGFounder (arXiv 2410.04133) and ECG-CPC (arXiv 2509.25095) HEEDB; MERL
(arXiv 2403.06659) and ECGFM-KED (Tian et al. 2024) MIMIC-IV-ECG; ST-MEM (arXiv 2402.09450) and ECG-JEPA (arXiv
2410.08559) Chapman, Ningbo and CODE-15%; ECG-FM's released weights (its repository's README) MIMIC-IV-ECG and the
Challenge-2021 training set; HuBERT-ECG (medRxiv 2024.11.14.24317328) 9.1 million ECGs, most of them of the CODE cohort.
Seeing means the recordings, the test folds included. Released weights saw no labels; those pretrained here by objective
"supervised" saw the labels of their training folds.
"""

import re

from ecgjax.tasks import RUNS

# The Challenge-2021 training set holds the four cohorts of the benchmark, PTB-XL, most of PTB and Chapman's recordings.
CHALLENGE_2021 = ("cpsc2018", "cpsc_extra", "georgia", "ningbo", "chapman", "ptbxl", "ptb")

SEEN: dict[str, tuple[str, ...]] = {
    "ecg_cpc": ("heedb",),
    "ecg_founder": ("heedb",),
    "merl_resnet": ("mimic",),
    "merl_vit": ("mimic",),
    "ecgfm_ked": ("mimic",),
    "ecg_jepa": ("chapman", "ningbo", "code15"),
    "st_mem": ("chapman", "ningbo", "code15"),
    "ecg_fm": ("mimic", *CHALLENGE_2021),
    "hubert_ecg": ("code15",),
}
"""Model -> sources. Models that are not in it are not pretrained."""

INCOMPLETE = ("hubert_ecg",)
"""Models whose full list of pretraining data was not to be had: that a source is not named says nothing."""


def seen_by(source: str) -> tuple[str, ...]:
    """Models whose released weights saw recordings of a source, sorted."""
    return tuple(sorted(model for model, sources in SEEN.items() if source in sources))


def saw(model: str, source: str, origin: str | None) -> bool | None:
    """Whether a model's weights saw recordings of a source in pretraining.

    Args:
        model: registry name.
        source: of the data the model is tested on.
        origin: what the weights' card says about where they came from, "" if nothing; None is random initialisation.

    Returns:
        None where it is not known: random initialisation (there is nothing to know), models with an incomplete list of
        pretraining data, models and sources that are not the benchmark's, weights trained further by ecgjax.
    """
    if origin is None:
        return None
    own = re.match(r"(pre)?trained by ecgjax on (\w+)", origin)
    if own:
        return True if own[2] == source else (False if own[1] else None)
    if source in SEEN.get(model, ()):
        return True
    benchmark = {run.source for run in RUNS.values()} - {"folder"}
    return None if model in INCOMPLETE or model not in SEEN or source not in benchmark else False
