"""A small real sweep, a fused unit and a cell alone, for what goes wrong around it.

python -m tests.sweep.faulty WORKDIR STORE STEP runs it, and kills itself (-9) when a cell's log has STEP; 0: never.
"""

import os
import signal
import sys
from pathlib import Path

from ecgjax.sweep.axes import axis, chain, fixed, product
from tests.sweep import stub

TINY = {"model": "tiny"}
RATES = (1e-3, 1e-2, 3e-2)


def config(store, rates=RATES, **changes):
    heads = product(fixed({**TINY, "mode": "linear"}), axis("learning_rate", rates))
    small = {"common.epochs": 3, "common.batch_size": 16, "common.interval.replicates": 20, "common.log_every": 1}
    return stub.config(
        store, chain(heads, fixed({**TINY, "mode": "finetune", "learning_rate": 1e-3})), **{**small, **changes}
    )


def main(workdir, store, step):
    import jax

    from ecgjax.jobs import sweep
    from ecgjax.models import registry
    from ecgjax.sweep import train_unit
    from ecgjax.training.logging import MetricLog

    registry._MODELS["tiny"] = "tests.jobs.tiny_model"
    jax.config.update("jax_default_matmul_precision", "highest")
    train_unit.SAVE_SECONDS = 0
    write = MetricLog.write

    def deadly(self, at, values):
        write(self, at, values)
        if at == int(step):
            os.kill(os.getpid(), signal.SIGKILL)

    MetricLog.write = deadly
    sweep.run(config(store), Path(workdir))


if __name__ == "__main__":
    main(*sys.argv[1:])
