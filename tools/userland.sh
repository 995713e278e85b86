#!/usr/bin/env bash
# userland.sh SUITE COMMAND...: runs COMMAND in the checkout with the Python and BCC of a Debian release (bullseye,
# sid), on this machine's kernel, as root.
#
# The release's root file system, with its BCC and what the live tests need from PyPI, is made once and kept in
# $XDG_CACHE_HOME/mmwatch/userland (default: ~/.cache/mmwatch/userland). It is rebuilt when its ingredients change.
# COMMAND finds the checkout read-only in /src and `python` on PATH. Files it leaves in /tmp are lost.

set -euo pipefail
cd "$(dirname "$0")/.."
. tools/common.sh
. tools/root.sh

[ $# -ge 2 ] || die 64 "usage: tools/userland.sh SUITE COMMAND..."
suite=$1
shift
need_root
mkdir -p "$cache/userland"
root=$cache/userland/$suite

requirements=$(python3 -c '
import configparser
setup = configparser.ConfigParser()
setup.read("setup.cfg")
tests = setup["options.extras_require"]["dev"].split()
print(*setup["options"]["install_requires"].split(), *(word for word in tests if word.startswith("pytest")))')

made_from() { echo "$suite $requirements"; cat tools/common.sh tools/root.sh tools/userland.sh; }

make_userland() {
    say "making the userland of $suite, kept in $root"
    rm -rf --one-file-system "$root" "$root.new"
    minimal_root "$suite" "$root.new"
    cp tools/common.sh "$root.new/"
    # shellcheck disable=SC2016,SC2086  # expanded inside; a list of words
    in_root "$root.new" bash -euc '
        . /common.sh
        install_packages $(packages_for apt-get) || die $EXIT_UNAVAILABLE "apt-get could not install BCC" "check the network"
        apt-get clean
        make_venv /usr/bin/python3 /venv
        run_pip /venv install "$@" || die_pip
        mkdir /src' sh $requirements
    made_from >"$root.new/made_from"
    mv "$root.new" "$root"
}

# Two runs at a time share the root file system, but only one of them makes it.
exec 9>"$root.lock"
flock 9
made_from | cmp -s - "$root/made_from" || make_userland
flock --unlock 9

# shellcheck disable=SC2016  # expanded by in_root
export MOUNTS='
    mount --bind . "$root/src"
    mount -o remount,bind,ro "$root/src"
    mount -t tmpfs tmpfs "$root/tmp"
    mount -t tmpfs tmpfs "$root/mnt"'
# shellcheck disable=SC2016  # expanded inside
in_root "$root" sh -euc 'cd /src; PATH=/venv/bin:$PATH PYTHONPYCACHEPREFIX=/tmp/cache exec "$@"' sh "$@"
