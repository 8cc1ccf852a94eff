"""Flags -> config -> job; nothing else.

python -m ecgjax.main --config=configs/cpc_pretrain.py --workdir=runs/cpc [--config.key=value ...]

One run over several processes: docs/distributed.md.
"""

import importlib
import logging
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from ecgjax.errors import UserError

_CONFIG = config_flags.DEFINE_config_file("config", None, "One of the files in configs/.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is written; made if missing. A sweep's may be a URL.")
_DEBUG = flags.DEFINE_bool("debug", False, "Show tracebacks of usage and input errors.")

_DISTRIBUTED = flags.DEFINE_enum(
    "distributed",
    "auto",
    ["auto", "on", "off"],
    "Whether this process is one of several of one run: auto, as Cloud TPU, SLURM, Open MPI or Kubernetes started it.",
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0 (any free port), without a cluster.")
_PROCESSES = flags.DEFINE_integer("processes", None, "Number of processes of the run, with --coordinator.")
_PROCESS = flags.DEFINE_integer("process", None, "Number of this process, from 0, with --coordinator.")
_START_TIMEOUT = flags.DEFINE_integer("start_timeout", 300, "Seconds to wait for the other processes at the start.")
_HEARTBEAT_TIMEOUT = flags.DEFINE_integer(
    "heartbeat_timeout", 100, "Seconds after which a silent process is given up, and the run with it."
)

JOBS = (
    *("pretrain", "pretrain_ablation", "evaluate", "features", "label_efficiency", "robustness", "retest"),
    *("transfer", "similarity", "report", "sweep", "audit", "saliency", "compile_check"),
)


def run(config: ConfigDict, workdir: Path | str | None) -> None:
    """Runs the job that `config.job` names.

    Raises:
        UserError: unknown job, or whatever the job finds wrong with its input.
    """
    if config.get("job") not in JOBS:
        raise UserError(f"config.job is {config.get('job')!r}; expected one of {', '.join(JOBS)}")
    if isinstance(workdir, str) and config.job != "sweep":
        raise UserError(f"--workdir={workdir}: only a sweep is written to a bucket; expected a folder")
    _set_up_jax(config)
    with _session(config.job):
        _keep_memory()
        job: Callable[[ConfigDict, Path | str | None], None] = importlib.import_module(f"ecgjax.jobs.{config.job}").run
        job(config, workdir)


def _session(job: str) -> AbstractContextManager[None]:
    from ecgjax import distributed

    processes = distributed.Processes(
        _DISTRIBUTED.value,
        _COORDINATOR.value,
        _PROCESSES.value,
        _PROCESS.value,
        _START_TIMEOUT.value,
        _HEARTBEAT_TIMEOUT.value,
    )
    return distributed.session(job, processes)


def _set_up_jax(config: ConfigDict) -> None:
    import jax

    # absl lets JAX report every backend it does not find.
    logging.getLogger("jax").setLevel(logging.WARNING)
    cache = os.environ.get("ECGJAX_CACHE", str(Path.home() / ".cache" / "ecgjax"))
    if config.get("compilation_cache", True):
        jax.config.update("jax_compilation_cache_dir", str(Path(cache) / "xla"))
    # float32 means float32 on every chip; TPUs would otherwise multiply in bfloat16.
    jax.config.update("jax_default_matmul_precision", config.get("matmul_precision", "highest"))


def _keep_memory() -> None:
    from ecgjax import distributed, host_memory

    # Not tried with several processes, whose programs wait for each other.
    if not distributed.joined():
        host_memory.keep_freed()


def _parse(argv: list[str]) -> list[str]:
    debug = "--debug" in argv
    for argument in argv:
        name = argument.removeprefix("--config=").split(":")[0]
        if argument.startswith("--config=") and not Path(name).is_file():
            fail(f"{argument}: no such file; expected one of the files in configs/")
    try:
        return flags.FLAGS(argv)
    except (AttributeError, KeyError) as error:  # ml_collections: no such field, with its suggestion
        if debug:
            raise
        detail = error.args[0] if error.args else error
        detail = detail.args[0] if isinstance(detail, KeyError) else detail
        fail(f"no such config field: {detail}")
    except (flags.Error, TypeError, ValueError, OSError) as error:
        if debug:
            raise
        # A config file's own error comes as the text of a traceback, with the error in its last line.
        fail(str(error).strip().splitlines()[-1].partition(": ")[2] if "Traceback" in str(error) else error)


def fail(error: object) -> NoReturn:
    """Prints one line to stderr and exits with 2."""
    print("ecgjax: " + " ".join(str(error).split()), file=sys.stderr)
    sys.exit(2)


def _main(argv: list[str]) -> None:
    try:
        if len(argv) > 1:
            raise UserError(f"unexpected argument {argv[1]!r}; expected --config=FILE --workdir=DIR --config.key=value")
        if _CONFIG.value is None:
            raise UserError("--config is missing; expected one of the files in configs/, e.g. configs/cpc_pretrain.py")
        run(_CONFIG.value, _place(_WORKDIR.value))
    except UserError as error:
        if _DEBUG.value:
            raise
        fail(error)


def _place(workdir: str | None) -> Path | str | None:
    """A URL stays text: as a path it would lose a slash."""
    if not workdir or "://" in workdir:
        return workdir or None
    return Path(workdir)


def main() -> None:
    """Console entry point."""
    app.run(_main, flags_parser=_parse)


if __name__ == "__main__":
    main()
