#!/usr/bin/env bash
# clean_root.sh [-s SUITE] [COMMAND...]: does the README work on a machine with nothing installed?
#
# Makes a minimal Debian (bookworm, or SUITE) with debootstrap, once, keeps it in $XDG_CACHE_HOME/mmwatch
# (/var/tmp/mmwatch without), unpacks a fresh copy, puts the checkout into /src there and runs COMMAND in it by chroot, on
# this machine's kernel, as root. Without COMMAND: what a newcomer would do, with the time of each step, and each a second
# time; the live tests are left out (`make test` as COMMAND has them). The mounts are in a mount namespace of their own,
# so they go away with it whatever happens.

set -euo pipefail
cd "$(dirname "$0")/.."
. tools/common.sh

suite=bookworm
if [ "${1-}" = -s ]; then
    suite=$2
    shift 2
fi
[ "$(id -u)" = 0 ] || die $EXIT_NO_PERMISSION "chroot and mounts take root" "run: sudo tools/clean_root.sh"
command -v debootstrap >/dev/null || die $EXIT_UNAVAILABLE "debootstrap is missing" "on Debian: apt-get install debootstrap"

cache=${XDG_CACHE_HOME:-/var/tmp}/mmwatch
image=$cache/$suite.tar
mkdir -p "$cache"
work=$(mktemp -d "$cache/root.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
root=$work/root

if [ ! -f "$image" ]; then
    say "making a minimal $suite, kept in $image"
    # What the README takes for granted is make; certificates and the host's settings are for the network only.
    quietly timeout 1800 debootstrap --variant=minbase --include=make,ca-certificates "$suite" "$root" ||
        die $EXIT_UNAVAILABLE "debootstrap failed; the end of what it said is above"
    rm -f "$root"/var/cache/apt/archives/*.deb
    tar -C "$root" -cf "$image.new" . && mv "$image.new" "$image"
else
    mkdir "$root" && tar -C "$root" -xf "$image"
fi

# The way to the network is this machine's: names, proxies, certificates, pip's settings.
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" 2>/dev/null || true
apt-config dump 2>/dev/null | grep '^Acquire::[a-zA-Z:-]* ' >"$root/etc/apt/apt.conf.d/99host" || true
mkdir -p "$root/root/.config/pip"
[ ! -f /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/"
[ ! -f ~/.config/pip/pip.conf ] || cp ~/.config/pip/pip.conf "$root/root/.config/pip/"
settings=()
while IFS= read -r line; do settings+=("$line"); done < <(env | grep -iE '^(PIP_[A-Z_]*|[a-z]*_proxy|SSL_CERT_FILE|SSL_CERT_DIR)=')

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
# shellcheck disable=SC2016  # expanded inside
unshare --mount --propagation private sh -euc '
    root=$1; shift
    for folder in proc sys dev; do mount --rbind "/$folder" "$root/$folder"; done
    exec chroot "$root" "$@"
' sh "$root" env -i HOME=/root TERM=dumb LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    "${settings[@]}" bash /trial "$@" </dev/null || status=$?
say "the trial in a clean $suite ended with status $status"
exit "$status"
