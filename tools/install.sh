#!/usr/bin/env bash
# install.sh install|uninstall: mmwatch for all users, under PREFIX (/usr/local).
#
#   PREFIX/lib/mmwatch           its own virtual environment; the checkout is not needed afterwards
#   PREFIX/bin/mmwatch           a link into it
#   PREFIX/share/man/man8/...    the manual
#   /usr/bin/mmwatch             a second link, only if sudo does not search PREFIX/bin (RHEL's secure_path)
#
# PREFIX/lib/mmwatch/installed-files lists what was made outside that folder. Uninstalling removes exactly that.

set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
. tools/common.sh

PREFIX=${PREFIX:-/usr/local}
case $PREFIX in /*) ;; *) die $EXIT_ERROR "PREFIX must be an absolute path: $PREFIX" ;; esac
home=$PREFIX/lib/mmwatch
list=$home/installed-files
stamp=$home/mmwatch-install.stamp

need_write() {
    local folder=$PREFIX
    while [ ! -e "$folder" ]; do folder=$(dirname "$folder"); done
    [ -w "$folder" ] || die $EXIT_NO_PERMISSION "cannot write to $folder" "run: sudo make $1"
}

# The PATH that sudo searches. Already under sudo, it is our own (make passes it on).
sudo_path() {
    if [ -n "${SUDO_UID-}" ] || ! command -v sudo >/dev/null; then echo "$PATH"; return; fi
    sudo -n env 2>/dev/null | sed -n 's/^PATH=//p'
}

searched() { case :$1: in *:$2:*) return 0 ;; *) return 1 ;; esac; }

# The sources of an installation. If they are unchanged, there is nothing to do.
wanted() {
    find setup.cfg pyproject.toml tools mmwatch bpf man -type f ! -name '*.pyc' -print0 | LC_ALL=C sort -z |
        xargs -0 sha256sum
}

works() { [ "$("$home/bin/mmwatch" --version 2>/dev/null)" != "" ]; }

# need_free FILE: fails unless FILE is free, or a link of ours that may be replaced.
need_free() {
    [ ! -e "$1" ] && [ ! -L "$1" ] && return
    case $(readlink "$1") in "$home"/*) return ;; esac
    die $EXIT_ERROR "$1 exists and is not this mmwatch" "move it away, or choose another PREFIX"
}

page_path() { echo "man/man${1##*.}/$(basename "$1")"; }

# make_folder FOLDER: makes it with its parents, and remembers which of them are new.
made=()
make_folder() {
    [ ! -d "$1" ] || return 0
    make_folder "$(dirname "$1")"
    mkdir "$1"
    made+=("$1")
}

link() {
    make_folder "$(dirname "$1")"
    ln -sfn "$2" "$1"
    echo "$1" >>"$list"
}

install() {
    local python page
    need_write install
    if [ -f "$stamp" ] && wanted | cmp -s - "$stamp" && works; then
        say "installed already, nothing to do ($PREFIX/bin/mmwatch)"
        return
    fi
    if [ -e "$home" ] && [ ! -f "$list" ]; then
        die $EXIT_ERROR "$home exists and was not made by make install" "move it away, or choose another PREFIX"
    fi
    need_free "$PREFIX/bin/mmwatch"
    for page in man/*.[578]; do need_free "$PREFIX/share/$(page_path "$page")"; done
    python=$(need_system_python)
    say "installing into $home"
    if [ -f "$list" ]; then remove_all; fi
    make_folder "$(dirname "$home")"
    build=$(mktemp -d)
    trap 'rm -rf "$build"; [ -f "$stamp" ] || remove_all' EXIT # all or nothing
    make_venv "$python" "$home"
    : >"$list"
    # Built from a copy, so that root leaves no files in the checkout.
    cp -R setup.cfg pyproject.toml MANIFEST.in README.md LICENSE mmwatch bpf man "$build"
    run_pip "$home" install --no-build-isolation "$build" || die_pip
    isolate "$home/bin/mmwatch"
    works || die $EXIT_ERROR "the installed mmwatch does not start" "try: $home/bin/mmwatch --version"
    link "$PREFIX/bin/mmwatch" "$home/bin/mmwatch"
    for page in man/*.[578]; do
        link "$PREFIX/share/$(page_path "$page")" "$home/share/$(page_path "$page")"
    done
    if searched "$(sudo_path)" "$PREFIX/bin"; then
        say "installed; try: sudo mmwatch demo"
    elif [ "$PREFIX" = /usr/local ] && [ ! -e /usr/bin/mmwatch ]; then
        link /usr/bin/mmwatch "$home/bin/mmwatch"
        say "installed, with a link in /usr/bin because sudo does not search $PREFIX/bin; try: sudo mmwatch demo"
    else
        say "installed, but sudo does not search $PREFIX/bin; try: sudo $PREFIX/bin/mmwatch demo"
    fi
    if [ ${#made[@]} != 0 ]; then printf '%s\n' "${made[@]}" >>"$list"; fi
    wanted >"$stamp"
}

# Leaves links that now lead elsewhere, since they are somebody else's, and folders that are not empty.
remove_all() {
    local path paths=()
    if [ -f "$list" ]; then mapfile -t paths < <(tac "$list"); fi
    rm -rf "$home"
    for path in "${paths[@]}"; do
        case $(readlink "$path") in "$home"/*) rm -f "$path" ;; esac
    done
    for path in "${paths[@]}"; do
        if [ -d "$path" ] && [ ! -L "$path" ]; then rmdir --ignore-fail-on-non-empty "$path"; fi
    done
}

uninstall() {
    if [ ! -f "$list" ]; then
        say "mmwatch is not installed under $PREFIX"
        return
    fi
    need_write uninstall
    [ -w "$home" ] || die $EXIT_NO_PERMISSION "cannot write to $home" "run: sudo make uninstall"
    remove_all
    say "removed from $PREFIX; the distribution's packages (BCC, Python) stay"
}

case ${1-} in
    install | uninstall) "$1" ;;
    *) die 64 "usage: tools/install.sh install|uninstall" ;;
esac
