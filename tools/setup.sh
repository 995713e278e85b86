#!/usr/bin/env bash
# setup.sh run|dev|vm: installs what the checkout needs into the virtual environment $VENV (.venv): the distribution's
# BCC, mmwatch itself (editable) and its Python packages. `dev` adds the tools of `make test` and `make lint`; `vm` also
# adds what it takes to boot other kernels.
# A second run finds nothing to do and says so. Installing the distribution's packages needs root.

set -euo pipefail
cd "$(dirname "$0")/.."
. tools/common.sh

kind=${1:-run}
VENV=${VENV:-.venv}
stamp=$VENV/mmwatch-$kind.stamp

# What the environment depends on. If the requirements change or the checkout moves, it is brought up to date.
wanted() { cat setup.cfg pyproject.toml tools/setup.sh tools/common.sh; pwd; }

ready() {
    [ -f "$stamp" ] && wanted | cmp -s - "$stamp" &&
        "$VENV/bin/python" -I -c 'import bcc, numpy, mmwatch; from importlib.util import find_spec; assert find_spec("pyroute2") and find_spec("textual")' 2>/dev/null
}

[ "$kind" != vm ] || need_laboratory
if ready; then
    say "set up already, nothing to do ($VENV)"
    exit 0
fi
trap 'hand_back "$VENV" mmwatch.egg-info' EXIT
python=$(need_system_python)
# Keep an environment made from the same Python, so that pip only adds what is missing.
if [ "$(readlink -f "$VENV/bin/python" 2>/dev/null)" != "$(readlink -f "$python")" ] ||
    [ ! -f "$VENV/mmwatch-venv.stamp" ] || ! "$VENV/bin/python" -I -c 'import bcc, pip' 2>/dev/null; then
    say "making the virtual environment $VENV from $python"
    make_venv "$python" "$VENV"
fi
case $kind in
    run) extra= ;;
    dev) extra="[dev]" ;;
    vm) extra="[dev,vm]" ;;
    *) die 64 "usage: tools/setup.sh run|dev|vm" ;;
esac
say "installing mmwatch$extra into $VENV"
run_pip "$VENV" install --no-build-isolation --editable ".$extra" || die_pip
wanted >"$stamp"
# `vm` includes `dev`, and `dev` includes `run`.
[ "$kind" = run ] || wanted >"$VENV/mmwatch-run.stamp"
[ "$kind" != vm ] || wanted >"$VENV/mmwatch-dev.stamp"
ready || die $EXIT_ERROR "the environment in $VENV does not work" \
    "try: $VENV/bin/python -c 'import bcc, numpy, pyroute2, mmwatch'"
say "ready: $VENV"
