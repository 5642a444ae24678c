#!/bin/sh
# Makes the virtual environment $1 out of the CPU lock, the development lock and this checkout.
set -eu
venv=$1
python=${PYTHON:-python3.11}
torch_index=https://download.pytorch.org/whl/cpu
here=$(dirname "$0")
cd "$here/.."

command -v "$python" >/dev/null || { echo "setup: $python is not installed; install Python 3.11, or set PYTHON" >&2; exit 2; }
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
    { echo "setup: $python is $("$python" -V); the locks are for Python 3.11, set PYTHON to one" >&2; exit 2; }
command -v gcc >/dev/null || { echo "setup: gcc is not installed; DeepSpeed compiles with it on first use" >&2; exit 2; }

started=$(date +%s)
step() { echo "setup: $1 ($(($(date +%s) - started)) s)"; }

step "a new virtual environment in $venv"
rm -rf "$venv"
"$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

# torch comes first: PyPI's own torch is the CUDA build, PyTorch's CPU build is in PyTorch's index. What pip is
# configured with here (an index or a directory of wheels) is asked before that index.
torch=$(grep '^torch==' requirements/cpu.txt)
step "$torch"
pip install -qq --no-deps --no-compile "$torch" 2>/dev/null ||
    pip install -qq --no-deps --no-compile --index-url "$torch_index" "$torch"

step "$(cat requirements/cpu.txt requirements/dev.txt | grep -c '==') packages, 3.6 GB on disk: this takes minutes"
pip install -qq --no-deps --no-compile -r requirements/cpu.txt -r requirements/dev.txt
pip install -qq --no-deps --no-compile --no-build-isolation -e .

# On every core at once, and also where PYTHONDONTWRITEBYTECODE is set: else each worker compiles its imports anew.
step "compiling"
"$venv/bin/python" -m compileall -q -j 0 "$venv"/lib/python3.11/site-packages >/dev/null || true # some ship templates
touch "$venv/.installed" # last: without it the environment counts as half made
step "done"
