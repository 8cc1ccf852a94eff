"""CPSC2018 as the PhysioNet/CinC Challenge 2021 distributes it: 6,877 records, 6 to 144 s (mean 16 s) at 500 Hz.

    python -m ecgjax.prepare cpsc2018 --raw=DIR --out=STORE

DIR is the release's training/cpsc_2018, any folder above it, or a flat folder of its records (A0001.hea and .mat).
The names of its diagnoses come from sheet "CPSC" of `Label mappings 2021.xlsx`, in DIR or above; --download gets it.

One label set, "all": the names of the codes under "Dx" in the headers, sorted; a class needs ten occurrences.
The nine classes are English names ("sinus rhythm"). Of the two releases of these recordings this source reads the
Challenge's, with headers; not the original one, A0001.mat with REFERENCE.csv.
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
    "1st degree av block": 722, "atrial fibrillation": 1221, "left bundle branch block": 236,
    "premature atrial contraction": 616, "right bundle branch block": 1857, "sinus rhythm": 918, "st depression": 869,
    "st elevation": 220, "ventricular ectopics": 700,
}  # fmt: skip

FACTS = challenge.facts("cpsc2018", "CPSC2018", origins=origins.CPSC2018, records=6877, published={"all": _PUBLISHED})

add_arguments = challenge.add_arguments
read = challenge.read

_COHORT = challenge.Cohort(folder="cpsc_2018", sheet="CPSC", classes=9, added=challenge.ATRIAL_RHYTHM)

listing = partial(challenge.listing, _COHORT)
label = partial(challenge.label, _COHORT)
