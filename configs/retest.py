r"""Finished evaluations tested again under noise, losses and swapped electrodes; nothing is trained.

    python -m ecgjax.main --config=configs/retest.py --config.runs=runs/ptbxl --workdir=runs/noise
    python -m ecgjax.main --config=configs/robustness.py --config.runs=runs/ptbxl,runs/noise

writes WORKDIR/RUN/CONDITION, an ordinary finished evaluation each: the same as one with these fields under
`config.signal`, whose training does not see them. Every disturbance by itself, at the strengths of
configs/sweep_noise.py, or some of them: :ratios=24+12+0,kinds=powerline+missing. Any others by a copy of this file.
Runs whose head was not kept (of frozen encoders in a sweep, whose heads train together in minutes) are left out with
the reason: configs/sweep_noise.py is for them. Kill it and start the same command again: what is tested stays.
"""

from ml_collections import ConfigDict

from configs import choice, sweep_noise


def get_config(wanted: str = "") -> ConfigDict:
    """The config of "ratios=...,kinds=..."; what is left out is all of them."""
    file = "configs/retest.py"
    chosen = choice.parse(wanted, sweep_noise.DEFAULTS, file)
    config = ConfigDict({"job": "retest"})
    config.runs = ""  # folders with finished runs, separated by commas
    config.exclude = ""  # runs to leave out: paths or names, * for any text; separated by commas
    config.conditions = sweep_noise.disturbances(chosen, wanted, file)  # fields of configs/evaluate.py, signal.* only
    return config
