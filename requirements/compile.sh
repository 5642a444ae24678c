#!/bin/sh
# Resolves the three locks out of pyproject.toml with uv. Versions that stand in a lock are kept while they fit;
# remove a line, or the file, to take a newer one.
#   cpu.txt  what runs on a CPU: install with --no-deps, its torch is PyTorch's CPU build
#   gpu.txt  the same ray, vLLM and torch on CUDA, for Linux on x86-64
#   dev.txt  what lint and tests add to either
# PyTorch's CPU wheels come from PyTorch's index, or from where TORCH_SOURCE says: TORCH_SOURCE="--find-links DIR".
set -eu
cd "$(dirname "$0")/.."
resolve() {
    out=$1
    shift
    uv pip compile pyproject.toml "$@" --quiet --no-annotate --python-version 3.11 \
        --python-platform x86_64-manylinux_2_28 --custom-compile-command requirements/compile.sh -o "$out"
}
cpu="--extra cpu --excludes requirements/cpu.excludes ${TORCH_SOURCE:---torch-backend cpu}"
# shellcheck disable=SC2086 # the options are words
resolve requirements/cpu.txt $cpu
resolve requirements/gpu.txt --extra gpu

both=$(mktemp)
trap 'rm -f "$both"' EXIT
cat requirements/cpu.txt requirements/dev.txt 2>/dev/null >"$both" || true
# shellcheck disable=SC2086
resolve "$both" $cpu --extra dev --quiet >/dev/null
{
    head -2 requirements/cpu.txt
    grep -vxFf requirements/cpu.txt "$both"
} >requirements/dev.txt.new
mv requirements/dev.txt.new requirements/dev.txt
