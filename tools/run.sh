#!/usr/bin/env bash
# run.sh COMMAND...: runs COMMAND with the virtual environment's programs first on PATH. Under sudo, files it leaves in
# the checkout (caches, byte code, build results) are given back to the checkout's user.

set -euo pipefail
cd "$(dirname "$0")/.."
. tools/common.sh

VENV=$(cd "${VENV:-.venv}" && pwd)
export VIRTUAL_ENV=$VENV PATH=$VENV/bin:$PATH
unset PYTHONHOME
trap 'hand_back .' EXIT
trap : INT # the command gets it too and reports; then we exit with its status
"$@"
