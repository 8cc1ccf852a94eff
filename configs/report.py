"""One report of any number of finished evaluations: values, intervals, tests, ranks, tables, figures, a page.

    python -m ecgjax.main --config=configs/report.py --config.runs=DIR [--workdir=REPORT]

collects every finished run below DIR, at any depth and from any machine; what is unfinished, foreign or damaged is
listed, not mixed in. Without --workdir it writes to DIR/report.
Several folders, and reports themselves, are merged by naming them all: --config.runs=DIR,OTHER_DIR,REPORT. Reports keep
what it takes to compare them (cells/), so predictions need not travel. Clashing fingerprints are refused.
All models of a task are compared on the same resamples of its test records. Finished label_efficiency and similarity
runs are shown beside.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config."""
    config = ConfigDict()
    config.job = "report"
    config.runs = ""  # folders with finished runs, and reports, separated by commas
    config.exclude = (
        ""  # runs to leave out: paths or names as the report shows them, * for any text; separated by commas
    )
    config.rename = ""  # runs whose model gets another name: PATH=NAME, separated by commas
    config.weights_by_seed = False  # seeds of a cell may have weights of their own, such as a pretraining each

    config.interval = ConfigDict()
    config.interval.kind = "percentile"  # or basic, bca
    config.interval.level = 0.95
    config.interval.replicates = 1000
    config.interval.unit = "record"  # what is resampled: record (the paper) or patient
    config.interval.seed = 0

    # Two models differ if the interval of their difference excludes 0 ("none", the paper), or if their p-value is below
    # 1 - level after Holm's adjustment over the pairs of models on a task ("holm").
    config.multiplicity = "none"
    config.rank_rule = "groups"  # the best model opens a group that all not significantly worse join; or wins
    config.numbering = "dense"  # of groups: 1, 2, 3; or competition: 1 + models before
    config.aggregation = "median"  # of ranks over a category's tasks; or mean

    config.curves = ""  # ROC and calibration of labels, with its figures: TASK/LABEL, separated by commas
    config.fairness = False  # values by sex and age band against the rest, of runs whose store is here and has them
    config.figures = True
    config.workers = 0  # threads, and processes that draw; 0: as many as there are processors
    return config
