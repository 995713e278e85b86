#!/usr/bin/env bash
# run.sh COMMAND...: runs it with the virtual environment's programs first on PATH. Under sudo, what it leaves in the
# checkout (caches, byte code, build results) is given back to the checkout's user.

set -euo pipefail
cd "$(dirname "$0")/.."
. tools/common.sh

VENV=$(cd "${VENV:-.venv}" && pwd)
export VIRTUAL_ENV=$VENV PATH=$VENV/bin:$PATH
unset PYTHONHOME
trap 'hand_back .' EXIT
trap : INT # the command gets it too and says what it has to say; then we follow with its status
"$@"
