"""Options of a preparation: those common to all sources, and the source's own."""

import argparse
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ecgjax.data.preparation.source import Facts, Source
from ecgjax.data.preparation.workers import default_workers
from ecgjax.errors import UserError

MIN_COUNT = 10
"""Occurrences that a class needs, by default (datasets.md, section 1.3)."""


class Parser(argparse.ArgumentParser):
    """Raises a `UserError` instead of leaving; takes underscores for the hyphens of options."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As the base class's."""
        return super().parse_known_args(
            [self._spelt(arg) for arg in (sys.argv[1:] if args is None else args)], namespace
        )

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")

    def _spelt(self, argument: str) -> str:
        flag, equals, value = argument.partition("=")
        if not flag.startswith("--") or flag in self._option_string_actions:
            return argument
        for known in self._option_string_actions:
            if known.replace("-", "_") == flag.replace("-", "_"):
                return known + equals + value
        return argument


def parser(source: Source, prog: str = "python -m ecgjax.prepare") -> Parser:
    """The command line of a source."""
    made = Parser(
        prog=f"{prog} {source.FACTS.name}",
        description=source.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    generated = source.FACTS.generated
    if not generated:
        made.add_argument("--raw", type=Path, required=True, help="folder of the raw files")
        made.add_argument("--download", action="store_true", help="fetch what is missing below --raw first")
        made.add_argument("--keep-archives", action="store_true", help="with --download: keep archives once unpacked")
    made.add_argument("--out", type=Path, required=True, help="the store to write; must not exist")
    made.add_argument("--workers", type=int, default=default_workers(), help="processes that read (default: all cores)")
    made.add_argument("--limit", type=int, help="take this many records only, evenly spaced, to try things out")
    made.add_argument(
        "--max-rejected", type=float, default=0.05, help="share of records that may be unusable (default: %(default)g)"
    )
    made.add_argument(
        "--min-count", type=int, help=f"occurrences that a class needs (default: {MIN_COUNT}; 1 with --limit)"
    )
    made.add_argument(
        "--dtype", choices=("int16", "float32"), help=f"how signals are stored (default: {source.FACTS.dtype})"
    )
    made.add_argument("--rate", type=float, help="resample to this rate, Hz (default: as recorded)")
    made.add_argument("--folds", type=Path, help="a folds.csv (record_id, fold) instead of the source's folds")
    made.add_argument(
        "--protocol",
        choices=("default", "paper"),
        default="default",
        help="paper: as the publication of the benchmark did it, also where that is questionable",
    )
    made.add_argument("--debug", action="store_true", help="show tracebacks, also of records that cannot be read")
    source.add_arguments(made)
    made.set_defaults(**({"raw": None, "download": False, "keep_archives": False} if generated else {}))
    return made


def complete(facts: Facts, options: argparse.Namespace) -> argparse.Namespace:
    """The options with defaults that depend on others; checks the common ones.

    Raises:
        UserError: a value is out of range, or --raw is no folder.
    """
    options = argparse.Namespace(**vars(options))
    if options.rate is not None and not (np.isfinite(options.rate) and options.rate > 0):
        raise UserError(f"--rate={options.rate}; expected a positive number of Hz")
    if not 0 <= options.max_rejected <= 1:
        raise UserError(f"--max-rejected={options.max_rejected}; expected a share from 0 to 1")
    for flag in ("limit", "workers", "min_count"):
        value = getattr(options, flag)
        if value is not None and value < 1:
            raise UserError(f"--{flag.replace('_', '-')}={value}; expected at least 1")
    if not facts.generated and not options.download and not options.raw.is_dir():
        raise UserError(f"{options.raw}: no such folder; expected the raw files of {facts.name!r}")
    options.min_count = options.min_count or (MIN_COUNT if options.limit is None else 1)
    options.dtype = options.dtype or facts.dtype
    return options
