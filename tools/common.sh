# Shared by the other scripts here. Source it, do not run it.
# shellcheck shell=bash

EXIT_ERROR=1
EXIT_UNAVAILABLE=69
EXIT_NO_PERMISSION=77

# Older Pythons lack what the code uses. Keep this in step with python_requires in setup.cfg.
PYTHON_MINIMUM="3, 9"

say() { printf 'mmwatch: %s\n' "$*" >&2; }

# die STATUS WHAT [HINT]
die() {
    say "$2"
    [ -z "${3-}" ] || say "  $3"
    exit "$1"
}

# quietly COMMAND...: shows the end of its output, and only if it fails.
quietly() {
    local log status=0
    log=$(mktemp)
    "$@" >"$log" 2>&1 </dev/null || status=$?
    [ "$status" = 0 ] || tail -n 15 "$log" >&2
    rm -f "$log"
    return "$status"
}

# retry SECONDS COMMAND...: up to three tries, each with a time limit; the usual reason to retry is the network.
# Only the last try shows why it failed.
retry() {
    local bounded=(timeout --kill-after=10 "$1") try
    shift
    for try in 1 2; do
        "${bounded[@]}" "$@" >/dev/null 2>&1 </dev/null && return
        say "try $try of 3 failed"
        sleep "$((try * 3))"
    done
    quietly "${bounded[@]}" "$@"
}

package_manager() {
    local name
    for name in apt-get dnf zypper pacman; do
        if command -v "$name" >/dev/null; then echo "$name"; return; fi
    done
}

# The packages with Python, venv and BCC's Python bindings, for the package manager $1.
# BCC is not on PyPI; the package called bcc there is something else.
packages_for() {
    case $1 in
        apt-get) echo python3 python3-venv python3-bpfcc ;;
        dnf) echo python3 python3-pip python3-bcc ;;
        zypper) echo python3 python3-pip python3-bcc ;;
        pacman) echo python python-bcc ;;
    esac
}

# install_packages NAME...
install_packages() {
    local manager
    manager=$(package_manager)
    case $manager in
        apt-get)
            export DEBIAN_FRONTEND=noninteractive
            local install=(apt-get -q -y -o Acquire::Retries=3 -o Acquire::http::Timeout=30
                -o Acquire::https::Timeout=30 -o DPkg::Lock::Timeout=120 install --no-install-recommends "$@")
            # The package lists on disk are often good enough; fetch them only if they are missing or stale.
            timeout --kill-after=10 900 "${install[@]}" >/dev/null 2>&1 </dev/null ||
                retry 900 sh -c 'apt-get -q -y -o Acquire::Retries=3 update; "$@"' sh "${install[@]}"
            ;;
        dnf) retry 900 "$manager" -y --setopt=retries=3 --setopt=timeout=30 install "$@" ;;
        zypper) retry 900 zypper --non-interactive install --no-recommends "$@" ;;
        pacman) retry 900 pacman -S --noconfirm --needed "$@" ;;
    esac
}

# Prints the distribution's own Python that can import the modules in $1 (a comma-separated list).
# `python3` on PATH may be another one (pyenv, conda), which never sees the distribution's packages.
system_python() {
    local python
    for python in /usr/bin/python3 /usr/bin/python3.[0-9] /usr/bin/python3.[0-9][0-9]; do
        [ -x "$python" ] || continue
        "$python" -I -c "import sys, $1; sys.exit(sys.version_info < ($PYTHON_MINIMUM))" 2>/dev/null || continue
        echo "$python"
        return
    done
    return 1
}

# Prints the system Python to build a virtual environment from. If there is none, installs what it takes.
need_system_python() {
    local manager packages
    system_python bcc,venv,ensurepip && return
    manager=$(package_manager)
    [ -n "$manager" ] || die $EXIT_UNAVAILABLE \
        "no known package manager found (apt-get, dnf, zypper, pacman)" \
        "install Python $(version_text) or newer and BCC's Python bindings, so that /usr/bin/python3 -c 'import bcc' works"
    packages=$(packages_for "$manager")
    [ "$(id -u)" = 0 ] || die $EXIT_NO_PERMISSION \
        "the distribution's packages are missing: $packages" "run: sudo make setup"
    say "installing with $manager: $packages"
    # shellcheck disable=SC2086  # a list of names
    install_packages $packages || die $EXIT_UNAVAILABLE \
        "$manager could not install: $packages" "see its messages above; check the network and the package sources"
    system_python bcc,venv,ensurepip && return
    die $EXIT_UNAVAILABLE "the packages are installed, but no /usr/bin/python3 of version $(version_text) or newer can import bcc" \
        "try: /usr/bin/python3 -c 'import sys, bcc, venv, ensurepip; print(sys.version)'"
}

# Installs what the laboratory (tests/vm, tests/userland) needs to unpack and boot Debian's kernels and to make root
# file systems.
need_laboratory() {
    local tool missing=()
    for tool in qemu-system-x86_64 busybox modprobe mke2fs mkswap file dpkg debootstrap; do
        PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null || missing+=("$tool")
    done
    [ ${#missing[@]} != 0 ] || return 0
    [ "$(package_manager)" = apt-get ] || die $EXIT_UNAVAILABLE \
        "the laboratory needs: ${missing[*]}" "it boots Debian's kernels; elsewhere, install these by hand"
    [ "$(id -u)" = 0 ] || die $EXIT_NO_PERMISSION "the laboratory needs: ${missing[*]}" "run: sudo tools/setup.sh vm"
    say "installing tools to boot other kernels: qemu-system-x86 kmod busybox-static e2fsprogs util-linux file debootstrap"
    install_packages qemu-system-x86 kmod busybox-static e2fsprogs util-linux file debootstrap || die $EXIT_UNAVAILABLE \
        "apt-get could not install them" "see its messages above; check the network and the package sources"
}

version_text() { echo "${PYTHON_MINIMUM/, /.}"; }

# run_pip VENV ARGUMENT...: keeps pip's own settings (PIP_*, pip.conf), and only limits how long it waits.
run_pip() {
    local venv=$1
    shift
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1 \
        PIP_DEFAULT_TIMEOUT=${PIP_DEFAULT_TIMEOUT:-30} PIP_RETRIES=${PIP_RETRIES:-3} \
        retry 900 "$venv/bin/python" -m pip --quiet "$@"
}

# make_venv PYTHON FOLDER: makes an environment that sees the distribution's bcc, with a recent pip (Debian 11's is too
# old for editable installs without a setup.py).
make_venv() {
    rm -rf "$2"
    "$1" -m venv --system-site-packages "$2" || die $EXIT_ERROR "$1 could not make a virtual environment in $2"
    run_pip "$2" install 'pip>=21.3' 'setuptools>=64' 'wheel>=0.37' || die_pip
    touch "$2/mmwatch-venv.stamp" # complete; without the stamp, the next run starts over
}

die_pip() {
    die $EXIT_UNAVAILABLE "pip could not install what mmwatch needs" "see its messages above; check the network"
}

# hand_back FOLDER...: under sudo, gives files that root wrote into a user's checkout back to that user.
hand_back() {
    [ "$(id -u)" = 0 ] && [ "${SUDO_UID:-0}" != 0 ] || return 0
    find "$@" -xdev -uid 0 -exec chown -h "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" {} + 2>/dev/null || true
}

# isolate FILE: makes a launcher that pip wrote start Python with -I: neither PYTHONPATH, nor PYTHONHOME of another Python,
# nor what a user keeps in a home that sudo has kept, matters to root. A long path stands in a second line (pip, distlib).
isolate() {
    sed -i -e '1s|^#!\(/.*/python[0-9.]*\)$|#!\1 -I|' -e "2s|^\('''exec' .*/python[0-9.]*\"\{0,1\}\) |\1 -I |" "$1"
    head -n 2 "$1" | grep -q -e 'python[0-9.]*"\{0,1\} -I' ||
        die $EXIT_ERROR "cannot isolate $1 from the environment" "pip wrote a launcher of an unknown form"
}
