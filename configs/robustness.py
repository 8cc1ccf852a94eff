"""How much models lose with fewer leads and worse signals: finished evaluations against leads, ratios and losses.

    python -m ecgjax.main --config=configs/robustness.py --config.runs=DIR [--workdir=OUT]

collects every finished evaluation below DIR, such as the cells of configs/sweep_leads.py and configs/sweep_noise.py and
their counterparts on recordings as they are, and writes robustness.json, .csv and .md with intervals and the paired
difference from the same model on twelve clean leads, and figures. Without --workdir it writes to DIR/robustness.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config."""
    config = ConfigDict()
    config.job = "robustness"
    config.runs = ""  # folders with finished runs, separated by commas
    config.exclude = ""  # runs to leave out: paths or names, * for any text; separated by commas
    config.interval = ConfigDict()
    config.interval.kind = "percentile"  # of the differences between conditions too
    config.interval.level = 0.95
    config.interval.replicates = 1000
    config.interval.unit = "record"  # what is resampled: record or patient
    config.interval.seed = 0
    config.figures = True
    return config
