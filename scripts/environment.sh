# shellcheck shell=bash
# Sourced by the other scripts: makes .venv and installs ecgjax into it. Needs python3 (3.11 or newer) and nothing else.
# `environment EXTRA` leaves the interpreter in $PYTHON; what is installed already is not installed again.

environment() {
  local extra=$1 base stamp wanted
  base=$(find_python)
  if [ ! -x .venv/bin/python ]; then
    echo "Making .venv with $("$base" --version) ..."
    "$base" -m venv .venv || {
      rm -rf .venv
      echo "error: $base cannot make a virtual environment; on Debian or Ubuntu: apt install python3-venv" >&2
      exit 2
    }
  fi
  PYTHON=$PWD/.venv/bin/python
  stamp=.venv/installed-$extra
  wanted=$(cat pyproject.toml constraints.txt | cksum)
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing ecgjax[$extra] (versions of constraints.txt; some minutes the first time) ..."
    "$PYTHON" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$extra]"
    echo "$wanted" > "$stamp"
  fi
}

find_python() {
  local name
  for name in python3 python3.13 python3.12 python3.11; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  echo "error: ecgjax needs Python 3.11 or newer; found $(python3 --version 2>/dev/null || echo none)" >&2
  exit 2
}
