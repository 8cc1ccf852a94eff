"""Makes a store of a data set.

python -m ecgjax.prepare SOURCE --raw=DIR --out=STORE [--workers=N] [--limit=N] [--download] ...
python -m ecgjax.prepare SOURCE --help
"""

import argparse
import sys

from rich.console import Console

from ecgjax.data import sources
from ecgjax.data.preparation import engine, options, summary
from ecgjax.data.store import open_store
from ecgjax.errors import UserError
from ecgjax.main import fail


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
        fail("interrupted; the same command goes on where it stopped")


def prepare(argv: list[str]) -> None:
    """Parses the command line, prepares the store, and prints what it holds and what its checks found.

    Raises:
        UserError: whatever is wrong with the command or the data.
    """
    prog = "python -m ecgjax.prepare"
    top = options.Parser(prog=prog, description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    top.add_argument("source", help=f"one of {', '.join(sources.names())}")
    top.add_argument("arguments", nargs=argparse.REMAINDER, help="what the source takes")
    chosen = top.parse_args(argv)
    parsed = options.parser(sources.load(chosen.source), prog).parse_args(chosen.arguments)
    store = open_store(engine.prepare(chosen.source, parsed))
    checks = summary.read_checks(store)
    summary.show(store, checks, Console(width=None if sys.stdout.isatty() else 120, highlight=False))
    for line in summary.failures(checks):
        print(f"ecgjax: warning: {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
