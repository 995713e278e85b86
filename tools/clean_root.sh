#!/usr/bin/env bash
# clean_root.sh [-s SUITE] [COMMAND...]: does the README work on a machine with nothing installed?
#
# Makes a minimal Debian (bookworm, or SUITE) with debootstrap, once, keeps it in $XDG_CACHE_HOME/mmwatch
# (~/.cache/mmwatch without), unpacks a fresh copy, puts the checkout into /src there and runs COMMAND in it by chroot, on
# this machine's kernel, as root. Without COMMAND: what a newcomer would do, with the time of each step, and each a second
# time; the live tests are left out (`make test` as COMMAND has them).

set -euo pipefail
cd "$(dirname "$0")/.."
. tools/common.sh
. tools/root.sh

suite=bookworm
if [ "${1-}" = -s ]; then
    suite=$2
    shift 2
fi
need_root

mkdir -p "$cache"
work=$(mktemp -d "$cache/root.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
root=$work/root
minimal_root "$suite" "$root"

# What git knows and what it would ask to add, as it is now: not the environment and caches of this machine.
mkdir "$root/src"
git -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
    tar --null --files-from=- --ignore-failed-read -cf - | tar -C "$root/src" -xf -

cat >"$root/trial" <<'TRIAL'
set -eu
cd /src
step() {
    echo "=== $*"
    start=$(date +%s.%N)
    status=0
    "$@" || status=$?
    printf '=== %s s, status %s: %s\n' "$(echo "$start $(date +%s.%N)" | awk '{printf "%.1f", $2 - $1}')" $status "$*" | tee -a /times
    [ $status = 0 ] || exit $status
}
mmwatch_anywhere() { cd / && mmwatch doctor >/dev/null && mmwatch --version; cd /src; }
files() { find /usr/local /usr/bin/mmwatch 2>/dev/null | sort; }
if [ $# != 0 ]; then step "$@"; exit; fi
step make demo ARGS='-d 5s'
step make demo ARGS='-d 5s'
step make test-unit
step make test-unit
files >/before
step make install
step make install
step mmwatch_anywhere
step make uninstall
files | diff /before - || { echo "make uninstall left these"; exit 1; }
cat /times
TRIAL

status=0
in_root "$root" bash /trial "$@" || status=$?
say "the trial in a clean $suite ended with status $status"
exit "$status"
