"""The version of everything in ecgjax that numbers depend on."""

VERSION = 1
"""Bumped by hand whenever a change can alter the result of an evaluation with an unchanged config, weights and data
(crops, resampling, models, initialisation, optimiser, seeds, metrics, bootstrap). Sweeps then run their cells anew."""
