#!/usr/bin/env bash
# Makes .venv, installs, and runs everything once on embedded data (about five minutes on two cores, no accelerator).
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
environment formats
exec "$PYTHON" -m ecgjax.quickstart "$@"
