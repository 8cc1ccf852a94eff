"""Converts published PyTorch checkpoints, without torch and without running code from the file.

python -m convert_weights MODEL FILE --out=DIR                        checkpoint -> ecgjax weights
python -m convert_weights MODEL DIR --verify                          recompute the self-check of converted weights
python -m convert_weights MODEL DIR --to=torch --out=x.safetensors    ecgjax weights -> the authors' names
python -m convert_weights --inspect FILE                              what is in a checkpoint; loads no tensor
"""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from convert_weights import listing
from convert_weights.reader import read_checkpoint
from ecgjax.errors import UserError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see python -m convert_weights --help")


def main(arguments: list[str] | None = None) -> int:
    """Runs the command.

    Returns:
        The exit code: 0, or 2 after one line about what is wrong with the arguments or the file.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        _run(_parser().parse_args(arguments))
    except UserError as error:
        if "--debug" in arguments:
            raise
        print("ecgjax: " + " ".join(listing.printable(str(error), longest=None).split()), file=sys.stderr)
        return 2
    except BrokenPipeError:  # `--inspect FILE | head`
        sys.stderr.close()
    return 0


def _parser() -> _Parser:
    parser = _Parser(
        "python -m convert_weights",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="one of ecgjax.models.names()")
    parser.add_argument("source", nargs="?", type=Path, metavar="FILE|DIR", help="checkpoint, or ecgjax weights")
    parser.add_argument(
        "--out", type=Path, metavar="PATH", help="where the weights (or the safetensors file) are written"
    )
    parser.add_argument("--inspect", type=Path, metavar="FILE", help="list a checkpoint's contents")
    parser.add_argument("--verify", action="store_true", help="recompute the self-check of ecgjax weights")
    parser.add_argument("--to", choices=["torch"], help="convert back to the authors' names")
    parser.add_argument("--debug", action="store_true", help="show tracebacks of usage and input errors")
    return parser


def _run(flags: argparse.Namespace) -> None:
    if flags.inspect is not None:
        if flags.model or flags.out or flags.verify or flags.to:
            raise UserError("--inspect takes a file and nothing else")
        for line in listing.lines(read_checkpoint(flags.inspect)):
            print(line)
        return
    if flags.model is None or flags.source is None:
        raise UserError("expected MODEL FILE --out=DIR, or --inspect FILE; see python -m convert_weights --help")
    # What loads JAX comes only now: --inspect and mistakes answer at once.
    from convert_weights import conversion

    if flags.verify:
        if flags.out or flags.to:
            raise UserError("--verify takes MODEL DIR and nothing else")
        difference, facts = conversion.verify(flags.model, flags.source)
        print(
            f"{flags.source}: features of the fixed input are those on the card (relative difference {difference:.1e})"
        )
        for fact in facts:
            print(f"{flags.source}: {fact}")
    elif flags.out is None:
        raise UserError("--out is missing; expected the folder to write, or with --to=torch the file *.safetensors")
    elif flags.to == "torch":
        count = conversion.export(flags.model, flags.source, flags.out)
        print(f"{flags.out}: {count} tensors")
    else:
        for line in listing.card_lines(conversion.convert(flags.model, flags.source, flags.out), flags.out):
            print(line)


if __name__ == "__main__":
    sys.exit(main())
