"""configs/sweep_smoke.py as its user runs it: a plan, a run that is killed, the same command again, a report."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS = 400  # of a process, on a slow machine


def _command(config: str, workdir: Path, *more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-m", "ecgjax.main", f"--config=configs/{config}", f"--workdir={workdir}", *more],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _output(process: subprocess.Popen[str]) -> str:
    try:
        text, _ = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode == 0, text
    return text


def test_plan_kill_resume_report(tmp_path):
    # Cells of the smoke sweep with an epoch less, and smaller S4 models; the axes are its own.
    small = ("--config.common.epochs=1", "--config.common.interval.replicates=50")
    planned = _output(_command("sweep_smoke.py", tmp_path / "none", "--config.dry_run=True", *small))
    assert "12 cells; 0 done already" in planned
    assert "8 cells in" in planned  # linear and frozen ones share encoder passes
    assert not (tmp_path / "none").exists()

    workdir = tmp_path / "smoke"
    killed = _command("sweep_smoke.py", workdir, *small)
    try:
        until = time.monotonic() + SECONDS
        while len(list(workdir.glob("cells/*/DONE"))) < 2:
            assert killed.poll() is None, killed.communicate()[0]
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
    done = {path.parent.name: path.stat().st_mtime_ns for path in workdir.glob("cells/*/DONE")}
    assert 2 <= len(done) < 12

    text = _output(_command("sweep_smoke.py", workdir, *small))
    assert f"{len(done)} done already" in text
    assert "12 of 12 cells done, 0 failed" in text
    assert json.loads((workdir / "status.json").read_text())["state"] == "done"
    after = {path.parent.name: path.stat().st_mtime_ns for path in workdir.glob("cells/*/DONE")}
    assert len(after) == 12
    assert done.items() <= after.items()  # none was done twice

    report = tmp_path / "report"
    _output(_command("report.py", report, f"--config.runs={workdir / 'selected'}"))  # as the sweep says at its end
    rows = json.loads((report / "results.json").read_text())["rows"]
    assert {row["model"] for row in rows} == {"s4", "ecg_cpc"}
    assert (report / "report.html").exists() or list(report.glob("*.html"))
