"""Ningbo First Hospital, from the PhysioNet/CinC Challenge 2021: 34,905 records, 10 s at 500 Hz.

    python -m ecgjax.prepare ningbo --raw=DIR --out=STORE

DIR is the release's training/ningbo, any folder above it, or a flat folder of its records (JS10647.hea and .mat).
The names of its diagnoses come from sheet "Ningbo" of `Label mappings 2021.xlsx`, in DIR or above; --download gets it.

One label set, "all": the names of the codes under "Dx" in the headers, sorted; a class needs ten occurrences.
Classes are abbreviations (SB, SR, TTW), 68 of them. One record is named S23074 and not JS23074. The Challenge's other
JS records are Chapman's; a folder that mixes both is told apart by their numbers (Ningbo starts at JS10647).
A code that the sheet lacks is left out and said; with --protocol=paper it is an error.

There are no patient ids: every record counts as a patient. Ten folds are stratified over all names (before rare ones
are dropped) of the records in the order of their names. Records with any missing value, and truncated ones, are
rejected. Ages that are NaN, negative or absent stay unknown.
"""

from functools import partial

from ecgjax.data.download import origins
from ecgjax.data.sources import challenge

# Records per code as the Challenge's evaluation code lists them (dx_mapping_*.csv), by the sheet's names; ten or more.
_PUBLISHED = {
    "1AVB": 893, "2AVB2": 58, "AAR": 16, "AF": 7615, "AIVR": 14, "AJR": 12, "ALS": 1163, "AMI": 49, "APB": 1054,
    "ARH": 215, "AT": 176, "AVB": 78, "AVD": 59, "AVJR": 139, "AnMI": 57, "Atrial_Escape_Beat": 17, "BPAC": 62,
    "CAVB": 75, "CLBBB": 248, "CRBBB": 1096, "CVCL": 653, "ERV": 344, "IIAVBI": 25, "IRBBB": 246, "IVB": 536,
    "Intraventricular_Block": 385, "JEB": 60, "JPT": 10, "JTach": 24, "LAnFB": 380, "LQRSV": 794, "LVH": 632,
    "LVHV": 4106, "MILW": 83, "PPW": 106, "PR": 1182, "PRIE": 40, "PRWP": 638, "PTW": 337, "PVC": 1091, "PVT": 109,
    "PWC": 47, "QAb": 828, "RAD": 638, "RAH": 33, "RAHV": 28, "RAVC": 18, "RBBB": 195, "RVH": 106, "SA": 2550,
    "SARR": 33, "SB": 12670, "SPRI": 23, "SR": 6299, "ST": 5687, "STC": 4232, "STDD": 1266, "STE": 799, "SVT": 137,
    "TPW": 215, "TTW": 5167, "TWO": 2720, "UW": 114, "VEB": 49, "VEsR": 96, "VF": 59, "VFW": 114, "WPW": 68,
}  # fmt: skip

FACTS = challenge.facts("ningbo", "Ningbo", origins=origins.NINGBO, records=34905, published={"all": _PUBLISHED})

add_arguments = challenge.add_arguments
read = challenge.read

_COHORT = challenge.Cohort(folder="ningbo", sheet="Ningbo", classes=68, added=challenge.ATRIAL_RHYTHM)

listing = partial(challenge.listing, _COHORT)
label = partial(challenge.label, _COHORT)
