"""labels.csv of a folder of PhysioNet/CinC Challenge 2021 records: sinus rhythms, and folds for a handful of records.

    python scripts/challenge_labels.py DIR --out=labels.csv
    python -m ecgjax.prepare folder --raw=DIR --labels=labels.csv --out=STORE

    python scripts/challenge_labels.py DIR --out=labels.csv --test-folds=folds.csv     # prepare with --folds=folds.csv

reads the codes under "Dx" in DIR/*.hea. For small folders: two fifths of the records are for training, a fifth for
validation, two fifths for testing (folds 0, 1, 2), stratified over the labels. There are no patient ids in the
Challenge: every record counts as a patient, records with the same samples (E07509, E07510) as one. Whole data sets have
sources of their own, such as python -m ecgjax.prepare georgia.
"""

import argparse
import csv
import hashlib
import sys
from pathlib import Path

from ecgjax.data.stratify import stratify

LABELS = {"SNR": "426783006", "SB": "426177001", "STach": "427084000"}
"""SNOMED CT codes of sinus rhythm, sinus bradycardia and sinus tachycardia."""
RATIOS = (0.4, 0.2, 0.4)
OTHER = "other"


def main() -> None:
    """Writes the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--test-folds", type=Path, help="also writes a folds.csv in which all records are test records")
    arguments = parser.parse_args()
    headers = sorted(arguments.folder.glob("*.hea"))
    if not headers:
        sys.exit(f"{arguments.folder}: no header in it; expected records such as E07500.hea and E07500.mat")
    named = [[name for name, code in LABELS.items() if code in codes(path)] or [OTHER] for path in headers]
    patients: dict[bytes, list[int]] = {}
    for row, path in enumerate(headers):
        digest = hashlib.sha256(path.with_suffix(".mat").read_bytes()).digest()
        patients.setdefault(digest, []).append(row)
    groups = list(patients.values())
    of_groups = [[name for row in rows for name in named[row]] for rows in groups]
    subsets = stratify(of_groups, [*LABELS, OTHER], RATIOS, [len(rows) for rows in groups])
    place = {row: (groups[g][0], fold) for fold, subset in enumerate(subsets) for g in subset for row in groups[g]}
    with open(arguments.out, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["record_id", "patient_id", "fold", *LABELS])
        for row, path in enumerate(headers):
            first, fold = place[row]
            writer.writerow([path.stem, headers[first].stem, fold, *(int(name in named[row]) for name in LABELS)])
    if arguments.test_folds:
        rows = ["record_id,fold", *(f"{path.stem},0" for path in headers)]
        arguments.test_folds.write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(f"{len(headers)} records: " + ", ".join(f"{name} {sum(name in own for own in named)}" for name in LABELS))


def codes(header: Path) -> set[str]:
    """The codes in a header's comment "Dx"."""
    for line in header.read_text(encoding="utf-8").splitlines():
        key, _, value = line.lstrip("# ").partition(":")
        if line.startswith("#") and key == "Dx":
            return {code.strip() for code in value.split(",")}
    return set()


if __name__ == "__main__":
    main()
