#!/usr/bin/env bash
# Sets up a fresh machine, such as a TPU or GPU VM: scripts/machine.sh tpu (or cuda, ray; several: cuda,ray) makes .venv
# with ecgjax[EXTRAS]. Where the machine's Python is too old, uv brings one; nothing needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
if ! (find_python) >/dev/null 2>&1; then
  command -v uv >/dev/null || python3 -m pip install --quiet --user uv
  export PATH=$HOME/.local/bin:$PATH
  uv python install --quiet 3.11
  PATH=$(dirname "$(uv python find 3.11)"):$PATH
fi
environment "$1"
