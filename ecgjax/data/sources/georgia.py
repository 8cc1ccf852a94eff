"""Georgia (G12EC) from the PhysioNet/CinC Challenge 2021: 10,344 records, 5 or 10 s at 500 Hz.

    python -m ecgjax.prepare georgia --raw=DIR --out=STORE

DIR is the release's training/georgia, any folder above it, or a flat folder of its records (E00001.hea and .mat).
The names of its diagnoses come from sheet "G12EC" of `Label mappings 2021.xlsx`, in DIR or above; --download gets it.

One label set, "all": the names of the codes under "Dx" in the headers, sorted; a class needs ten occurrences.
Classes are English names ("sinus rhythm"), 50 of them.
A code that the sheet lacks is left out and said; with --protocol=paper it is an error.

There are no patient ids: every record counts as a patient. Ten folds are stratified over all names (before rare ones
are dropped) of the records in the order of their names. Records with any missing value, and truncated ones, are
rejected. Ages that are NaN, negative or absent stay unknown. Records shorter than 10 s count for the class list and the
folds; the task leaves them out of every split.
"""

from functools import partial

from ecgjax.data.download import origins
from ecgjax.data.sources import challenge

# Records per code as the Challenge's evaluation code lists them (dx_mapping_*.csv), by the sheet's names; ten or more.
_PUBLISHED = {
    "1st degree av block": 769, "2nd degree av block": 23, "accelerated junctional rhythm": 19,
    "anterior ischemia": 281, "atrial fibrillation": 570, "atrial flutter": 186, "atrial hypertrophy": 60,
    "atrial pacing pattern": 52, "atrial tachycardia": 28, "av block": 74, "bundle branch block": 116,
    "complete right bundle branch block": 28, "early repolarization": 140, "incomplete left bundle branch block": 86,
    "incomplete right bundle branch block": 407, "inferior ischaemia": 451, "lateral ischaemia": 903,
    "left anterior fascicular block": 180, "left atrial abnormality": 72, "left atrial enlargement": 870,
    "left axis deviation": 940, "left bundle branch block": 231, "left posterior fascicular block": 25,
    "left ventricular hypertrophy": 1232, "low qrs voltages": 374,
    "nonspecific intraventricular conduction disorder": 203, "nonspecific st t abnormality": 1883,
    "premature atrial contraction": 639, "premature ventricular complexes": 41, "prolonged qt interval": 1391,
    "qwave abnormal": 464, "r wave abnormal": 10, "right atrial abnormality": 14, "right axis deviation": 83,
    "right bundle branch block": 542, "right ventricular hypertrophy": 86, "sinus arrhythmia": 455,
    "sinus bradycardia": 1677, "sinus rhythm": 1752, "sinus tachycardia": 1261, "st depression": 38,
    "st elevation": 134, "st interval abnormal": 992, "supraventricular tachycardia": 32,
    "suspect arm ecg leads reversed": 12, "t wave abnormal": 2306, "t wave inversion": 812,
    "ventricular ectopic beats": 357, "ventricular hypertrophy": 71, "ventricular pacing pattern": 46,
}  # fmt: skip

FACTS = challenge.facts("georgia", "Georgia", origins=origins.GEORGIA, records=10344, published={"all": _PUBLISHED})

add_arguments = challenge.add_arguments
read = challenge.read

_COHORT = challenge.Cohort(folder="georgia", sheet="G12EC", classes=50, added={})

listing = partial(challenge.listing, _COHORT)
label = partial(challenge.label, _COHORT)
