"""CPSC-Extra, the unused recordings of CPSC2018, from the Challenge 2021: 3,453 records, 8 to 98 s at 500 Hz.

    python -m ecgjax.prepare cpsc_extra --raw=DIR --out=STORE

DIR is the release's training/cpsc_2018_extra, any folder above it, or a flat folder of records (Q0001.hea and .mat).
Names of diagnoses come from sheet "CPSC-Extra" of `Label mappings 2021.xlsx`, in DIR or above; --download gets it.

One label set, "all": the names of the codes under "Dx" in the headers, sorted; a class needs ten occurrences.
Classes are English names ("sinus rhythm"), 33 of them.
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
    "1st degree av block": 106, "2nd degree av block": 21, "anterior myocardial infarction": 62,
    "atrial fibrillation": 153, "atrial fibrillation and flutter": 39, "atrial flutter": 54, "atrial tachycardia": 15,
    "bradycardia": 271, "chronic myocardial ischemia": 161, "complete heart block": 27,
    "complete right bundle branch block": 113, "incomplete left bundle branch block": 42,
    "incomplete right bundle branch block": 86, "left atrial hypertrophy": 40, "left bundle branch block": 38,
    "left ventricular hypertrophy": 158, "myocardial infarction": 376, "myocardial ischemia": 384,
    "nonspecific st t abnormality": 1290, "old myocardial infarction": 1168, "premature atrial contraction": 73,
    "premature ventricular contractions": 188, "right atrial hypertrophy": 18, "right ventricular hypertrophy": 20,
    "sinus arrhythmia": 11, "sinus bradycardia": 45, "sinus tachycardia": 303, "st depression": 57,
    "st elevation": 66, "st interval abnormal": 481, "supraventricular premature beats": 53, "t wave abnormal": 22,
    "ventricular fibrillation": 10,
}  # fmt: skip

FACTS = challenge.facts(
    "cpsc_extra", "CPSC-Extra", origins=origins.CPSC_EXTRA, records=3453, published={"all": _PUBLISHED}
)

add_arguments = challenge.add_arguments
read = challenge.read

_COHORT = challenge.Cohort(folder="cpsc_2018_extra", sheet="CPSC-Extra", classes=33, added={})

listing = partial(challenge.listing, _COHORT)
label = partial(challenge.label, _COHORT)
