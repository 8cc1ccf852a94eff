"""Makes a store of a data set.

python -m ecgjax.prepare SOURCE [--raw=DIR --out=STORE ...]
python -m ecgjax.prepare folder --help
"""

import argparse
import sys
from typing import NoReturn

from rich.console import Console

from ecgjax.data import sources, store_summary
from ecgjax.data.store import open_store
from ecgjax.errors import UserError
from ecgjax.main import fail


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def main(argv: list[str] | None = None) -> None:
    """Console entry point; exits with 2 and one line on stderr if the input is wrong."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        prepare(argv)
    except UserError as error:
        if "--debug" in argv:
            raise
        fail(error)
    except KeyboardInterrupt:
        fail("interrupted; nothing was written")


def prepare(argv: list[str]) -> None:
    """Parses the command line, prepares the store and prints what it holds.

    Raises:
        UserError: whatever is wrong with the command or the data.
    """
    top = _Parser(prog="python -m ecgjax.prepare", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    top.add_argument("source", help=f"one of {', '.join(sources.names())}")
    top.add_argument("arguments", nargs=argparse.REMAINDER, help="what the source takes")
    chosen = top.parse_args(argv)
    source = sources.load(chosen.source)
    parser = _Parser(
        prog=f"{top.prog} {chosen.source}",
        description=source.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    source.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show tracebacks of input errors")
    prepared = source.prepare(parser.parse_args(chosen.arguments))
    store = open_store(prepared.path)
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    store_summary.show(store, prepared, console)
    for line in store_summary.warnings(store, prepared):
        print(f"ecgjax: warning: {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
