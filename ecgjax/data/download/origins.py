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
    """

    project: str
    version: str
    files: tuple[str, ...] = ("*",)
    flatten: str = ""


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
class Credentialed:
    """A data set that only a person can apply for.

    Attributes:
        url: where to apply.
        steps: what to do, one sentence each.
    """

    url: str
    steps: tuple[str, ...]


Origin = PhysioNet | Figshare | Zenodo | Credentialed
