"""Pretraining with two processes against one, each process on one core of its own.

    python -m benchmarks.processes [--steps=40] [--batch_size=16] [--rounds=3] [--width=128] [--output=FILE]

Runs job "pretrain" on the embedded synthetic ECGs as anybody would, single and double runs alternating, each process
pinned to one core: "strong", two processes share the batch that the one has; "weak", they have twice its batch. Rates
are the run's own (records/s of whole intervals, without compilation, validation and checkpoints). Efficiency is the
rate of two over twice the rate of one, as median over rounds. Prints one line of JSON. The two wait for each other in
every step, so whatever else runs on the machine costs them twice: for an otherwise idle one. Two runs that know nothing
of each other keep their rates here, so what two processes lose is the exchange: XLA does not join all-reduces on a CPU
(it does on a TPU or GPU), and 50 small ones in one program took 240 ms, whatever their size up to 0.4 MB.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.timing import asked, save, spread

SECONDS = 600  # of the longest wait for a run


def records_per_second(workdir: Path, batch_size: int, options: argparse.Namespace, cores: list[int]) -> float:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    records = 478  # of the synthetic set, for training
    command = [sys.executable, "-m", "ecgjax.main", "--config=configs/cpc_pretrain.py", f"--workdir={workdir}"]
    fields = {
        "model.width": options.width,
        "batch_size": batch_size,
        "epochs": -(-options.steps // (records // batch_size)),
        "log_every": 4,
        "validate_every": 10**6,
        "checkpoint_every": 10**6,
        "data.verify": False,
    }
    command += [f"--config.{name}={value}" for name, value in fields.items()]
    processes = []
    try:
        for index, core in enumerate(cores):
            meet = [f"--coordinator=127.0.0.1:{port}", f"--processes={len(cores)}", f"--process={index}"]
            processes.append(
                subprocess.Popen(
                    ["taskset", "-c", str(core), *command, *meet],
                    env={**os.environ, "JAX_PLATFORMS": "cpu"},
                    stdout=subprocess.DEVNULL,
                )
            )
        if any(process.wait(SECONDS) for process in processes):
            raise SystemExit("a run failed; see above")
    finally:
        for process in processes:
            process.kill()
    return json.loads((workdir / "results.json").read_text())["records_per_second"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--output", type=Path, help="JSON")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise SystemExit("one core only; expected two, one for each process")
    batch = options.batch_size
    kinds = {"one": (batch, cores[:1]), "strong": (batch, cores), "weak": (2 * batch, cores)}
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            for name in sorted(kinds, reverse=number % 2 == 1):
                size, used = kinds[name]
                rates[name].append(records_per_second(Path(folder) / f"{name}{number}", size, options, used))
    efficiency = {
        name: spread([two / (2 * one) for two, one in zip(rates[name], rates["one"], strict=True)])._asdict()
        for name in ("strong", "weak")
    }
    found = {"options": asked(options), "records_per_second": rates, "efficiency": efficiency}
    print(json.dumps(found))
    ratios = {
        f"pretraining, two processes ({name} scaling): rate of two / twice the rate of one": {"wall": value}
        for name, value in efficiency.items()
    }
    save(options.output, "processes", {**found, "ratios": ratios})


if __name__ == "__main__":
    main()
