"""Where a data set can be had: data that the download reads."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PhysioNet:
    """A project on PhysioNet; its SHA256SUMS.txt lists files and checksums.

    Attributes:
        project: e.g. "ptb-xl".
        version: e.g. "1.0.3".
        files: shell patterns of the paths to fetch, relative to the project; everything by default.
        flatten: leading folder to strip, so that --raw looks as the source expects it.
        size: of the files in bytes, roughly, for its list has no sizes; the disk is checked for it.
    """

    project: str
    version: str
    files: tuple[str, ...] = ("*",)
    flatten: str = ""
    size: int | None = None


@dataclass(frozen=True)
class Figshare:
    """A collection or an article on figshare; its API lists files with size and MD5.

    Attributes:
        collection: number of the collection, or None.
        article: number of the article, or None.
        version: of it.
        files: shell patterns of the file names to fetch.
    """

    collection: int | None = None
    article: int | None = None
    version: int | None = None
    files: tuple[str, ...] = ("*",)


@dataclass(frozen=True)
class Zenodo:
    """A record on Zenodo; its API lists files with size and MD5.

    Attributes:
        record: its number.
        files: shell patterns of the file names to fetch.
    """

    record: int
    files: tuple[str, ...] = ("*",)


@dataclass(frozen=True)
class File:
    """One file at a fixed address.

    Attributes:
        url: where it is.
        name: path to store it at, relative to --raw.
        size: in bytes, or None.
        sha256: of its content, or None.
    """

    url: str
    name: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Credentialed:
    """A data set that only a person can apply for.

    Attributes:
        url: where to apply.
        steps: what to do, one sentence each.
    """

    url: str
    steps: tuple[str, ...]


Origin = PhysioNet | Figshare | Zenodo | File | Credentialed


# The publishers' copies of the data sets of the benchmark.

PTBXL: tuple[Origin, ...] = (
    PhysioNet(
        "ptb-xl", "1.0.3", files=("ptbxl_database.csv", "scp_statements.csv", "records500/*"), size=2_700_000_000
    ),
)

PTB: tuple[Origin, ...] = (
    PhysioNet("ptbdb", "1.0.0", files=("RECORDS", "CONTROLS", "patient*/*"), size=1_800_000_000),
)


def _challenge(cohort: str, size: int) -> tuple[Origin, ...]:
    folder = f"training/{cohort}"
    return (PhysioNet("challenge-2021", "1.0.3", files=(f"{folder}/*",), flatten=folder, size=size), _LABEL_MAPPINGS)


# The workbook is a Google sheet that the Challenge's page links to; this copy has a fixed address and content.
_LABEL_MAPPINGS = File(
    url="https://raw.githubusercontent.com/AI4HealthUOL/ecg-fm-benchmarking/"
    "8958534a16f8653e28b9ff877527ccfb5ea9d53a/Label%20mappings%202021.xlsx",
    name="Label mappings 2021.xlsx",
    size=147_205,
    sha256="3a741e70b783f5ea0b70e5da6900fa9ef401ee0cb56f4460724cb244844aea40",
)

NINGBO = _challenge("ningbo", 4_300_000_000)
CPSC2018 = _challenge("cpsc_2018", 1_400_000_000)
CPSC_EXTRA = _challenge("cpsc_2018_extra", 700_000_000)
GEORGIA = _challenge("georgia", 1_300_000_000)

CHAPMAN: tuple[Origin, ...] = (
    Figshare(
        collection=4560497,
        version=2,
        files=("Diagnostics.xlsx", "AttributesDictionary.xlsx", "*Names.xlsx", "ECGData.zip"),
    ),
)

# Three articles of collection 5779802: metadata, signals, code list.
SPH: tuple[Origin, ...] = (
    Figshare(article=17912441, version=1, files=("metadata.csv",)),
    Figshare(article=17912507, version=1, files=("code.csv",)),
    Figshare(article=17912444, version=1, files=("records.tar.gz",)),
)

ZZU_PECG: tuple[Origin, ...] = (
    Figshare(
        article=27078763,
        version=1,
        files=("AttributesDictionary.csv", "ECGCode.csv", "DiseaseCode.csv", "Child_ecg.z01", "Child_ecg.zip"),
    ),
)

CODE15: tuple[Origin, ...] = (Zenodo(4916206, files=("exams.csv", "exams_part*.zip")),)

CODE_TEST: tuple[Origin, ...] = (Zenodo(3765780, files=("data.zip",)),)

ECHONEXT: tuple[Origin, ...] = (
    Credentialed(
        "https://physionet.org/content/echonext/1.1.0/",
        (
            "Make an account at https://physionet.org/register/ and sign in.",
            "Sign the data use agreement at the bottom of https://physionet.org/content/echonext/1.1.0/.",
            "Fetch the files: wget -r -N -c -np -nH --cut-dirs=3 --user NAME --ask-password "
            "https://physionet.org/files/echonext/1.1.0/",
            "Give the folder with echonext_metadata_100k.csv and the .npy files as --raw.",
        ),
    ),
)

MIMIC: tuple[Origin, ...] = (
    Credentialed(
        "https://physionet.org/content/mimic-iv-ecg/1.0/",
        (
            "Make an account at https://physionet.org/register/, pass the CITI course 'Data or Specimens Only "
            "Research' and become a credentialed user (https://physionet.org/settings/credentialing/).",
            "Sign the data use agreements of mimiciv, mimic-iv-ed, mimic-iv-ecg-ext-icd-labels and "
            "multimodal-emergency-benchmark (mimic-iv-ecg 1.0 itself is open).",
            "Fetch the signals: the zip (https://physionet.org/content/mimic-iv-ecg/get-zip/1.0/, 33 GB) and "
            "https://physionet.org/files/mimic-iv-ecg/1.0/machine_measurements.csv.",
            "Fetch the tables with wget -N -c --user NAME --ask-password https://physionet.org/files/PATH for PATH "
            "mimic-iv-ecg-ext-icd-labels/1.0.1/records_w_diag_icd10.csv, "
            "multimodal-emergency-benchmark/1.0.0/mds_ed.csv, mimic-iv-ed/2.2/ed/vitalsign.csv.gz, and in "
            "mimiciv/3.1/ hosp/omr.csv.gz, hosp/labevents.csv.gz, hosp/d_labitems.csv.gz, icu/chartevents.csv.gz and "
            "icu/d_items.csv.gz.",
            "Put the files into one folder, do not unpack them, and give it as --raw.",
        ),
    ),
)

HEEDB: tuple[Origin, ...] = (
    Credentialed(
        "https://bdsp.io/content/heedb/",
        (
            "Make an account at https://bdsp.io, become a credentialed user and sign the data use agreement of heedb.",
            "Copy from the S3 access point that the data set's page then shows: aws s3 sync ACCESS_POINT/ECG ECG, and "
            "the same with Metadata.",
            "Give the folder that holds ECG/WFDB and Metadata as --raw.",
        ),
    ),
)
