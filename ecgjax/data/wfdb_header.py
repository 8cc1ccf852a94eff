"""WFDB headers: the wfdb package's grammar, and its meaning of what is left out, without its 5 ms per record.

`wfdb.rdheader` looks every field of every signal up in data frames, and `wfdb.rdrecord` does so once more: that is most
of the time of reading a 10 s record, and hours for the large data sets. The regular expressions are the package's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from wfdb.io.header import rx_record, rx_signal


@dataclass(frozen=True)
class Header:
    """The fields that reading takes, called as in `wfdb.Record`; lists have one entry per signal."""

    n_seg: int | None
    n_sig: int
    fs: float
    sig_len: int | None
    file_name: list[str]
    fmt: list[str]
    samps_per_frame: list[int]
    skew: list[int | None]
    byte_offset: list[int | None]
    adc_gain: list[float]
    baseline: list[int]
    checksum: list[int | None]
    sig_name: list[str | None]


def parse(lines: Sequence[str]) -> Header:
    """Parses the lines of a header that are not comments; signal lines beyond the number of signals are ignored.

    Raises:
        ValueError: text that the grammar does not allow.
    """
    if not lines:
        raise ValueError("it is empty")
    # The package drops what is not ASCII, and its expressions would take a letter of another script for one of a name.
    record_line, *signal_lines = [line.encode("ascii", "ignore").decode("ascii") for line in lines]
    record = rx_record.match(record_line)
    if record is None:
        raise ValueError("invalid syntax in record line")
    n_sig = int(record["n_sig"])
    signals = []
    for line in signal_lines[:n_sig]:
        signal = rx_signal.match(line)
        if signal is None:
            raise ValueError("invalid syntax in signal line")
        signals.append(signal)
    return Header(
        n_seg=_whole(record["n_seg"]),
        n_sig=n_sig,
        fs=float(record["fs"]) if record["fs"] else 250.0,
        sig_len=_whole(record["sig_len"]),
        file_name=[signal["file_name"] for signal in signals],
        fmt=[signal["fmt"] for signal in signals],
        samps_per_frame=[1 if not signal["samps_per_frame"] else int(signal["samps_per_frame"]) for signal in signals],
        skew=[_whole(signal["skew"]) for signal in signals],
        byte_offset=[_whole(signal["byte_offset"]) for signal in signals],
        # Neither a gain nor a gain of 0 means 200.
        adc_gain=[(float(signal["adc_gain"]) if signal["adc_gain"] else 0.0) or 200.0 for signal in signals],
        # A baseline that is left out is the converter's zero.
        baseline=[_whole(signal["baseline"]) or _zero(signal["baseline"], signal["adc_zero"]) for signal in signals],
        checksum=[_whole(signal["checksum"]) for signal in signals],
        sig_name=[signal["sig_name"] or None for signal in signals],
    )


def _whole(text: str) -> int | None:
    return int(text) if text else None


def _zero(baseline: str, adc_zero: str) -> int:
    return int(adc_zero) if not baseline and adc_zero else 0
