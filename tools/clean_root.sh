#!/usr/bin/env bash
# clean_root.sh [-s SUITE] [COMMAND...]: does the README work on a machine with nothing installed?
#
# Makes a minimal Debian (bookworm, or SUITE) with debootstrap once and keeps it in $XDG_CACHE_HOME/mmwatch
# (default: ~/.cache/mmwatch). Unpacks a fresh copy, puts the checkout into its /src, and runs COMMAND there by chroot,
# on this machine's kernel, as root. Without COMMAND it does what a newcomer would do, each step twice, and times every
# step. The live tests are left out; give `make test` as COMMAND to run them.

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

# Tracked and untracked files as they are now, but nothing ignored, such as this machine's environment and caches.
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
files | diff /before - || { echo "make uninstall left these files"; exit 1; }
cat /times
TRIAL

status=0
in_root "$root" bash /trial "$@" || status=$?
say "the trial in a clean $suite ended with status $status"
exit "$status"
