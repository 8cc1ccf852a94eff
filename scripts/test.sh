#!/usr/bin/env bash
# Makes .venv, installs, checks style and types, runs all tests. Arguments go to pytest, e.g. scripts/test.sh tests/data -x
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
environment dev
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m mypy
# By file: what a file sets up is then set up once.
exec "$PYTHON" -m pytest -n 2 --dist loadfile "$@"
