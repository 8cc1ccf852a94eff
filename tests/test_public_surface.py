"""What the README and other people's code may use after `import ecgjax` alone."""

import subprocess
import sys

PUBLIC = (
    "models.names()",
    "tasks.names()",
    "data.sources.names()",
    "data.leads.CANONICAL",
    "load_model",
    "embed",
    "read_recording",
    "open_store",
    "metrics.auroc",
    "metrics.macro_auroc",
    "metrics.mae",
    "losses.multitask",
    "bootstrap.intervals",
    "bootstrap.differences",
    "stratify.stratify",
)


def test_reachable_in_a_fresh_interpreter_and_without_torch():
    # Fresh, because here other tests have imported the modules already.
    lines = ["import sys, ecgjax", *(f"ecgjax.{name}" for name in PUBLIC), "assert 'torch' not in sys.modules"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
