# Root file systems of Debian releases, for clean_root.sh and userland.sh. Source it after common.sh, do not run it.
# shellcheck shell=bash

cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/mmwatch

need_root() {
    [ "$(id -u)" = 0 ] || die "$EXIT_NO_PERMISSION" "chroot and mounts need root" "run: sudo tools/$(basename "$0")"
    command -v debootstrap >/dev/null || die "$EXIT_UNAVAILABLE" "debootstrap is missing" "on Debian: apt-get install debootstrap"
}

# minimal_root SUITE FOLDER: unpacks a minimal Debian there, which is made once and kept as a tar archive.
minimal_root() {
    local image=$cache/$1.tar
    if [ -f "$image" ]; then
        mkdir "$2" && tar -C "$2" -xf "$image"
    else
        say "making a minimal $1, kept in $image"
        # The README only takes make for granted; certificates and the host's settings are just for the network.
        retry 900 debootstrap --variant=minbase --include=make,ca-certificates "$1" "$2" \
            ${MMWATCH_DEBIAN_ARCHIVE:+"${MMWATCH_DEBIAN_ARCHIVE%% *}"} ||
            die "$EXIT_UNAVAILABLE" "debootstrap failed; see the end of its output above" "check the network"
        rm -f "$2"/var/cache/apt/archives/*.deb
        tar -C "$2" -cf "$image.new" . && mv "$image.new" "$image"
    fi
    # Network access is this machine's: names, proxies, certificates, pip's settings.
    cp -L /etc/resolv.conf /etc/hosts "$2/etc/"
    cp -L /etc/ssl/certs/ca-certificates.crt "$2/etc/ssl/certs/" 2>/dev/null || true
    apt-config dump 2>/dev/null | grep '^Acquire::[a-zA-Z:-]* ' >"$2/etc/apt/apt.conf.d/99host" || true
    mkdir -p "$2/root/.config/pip"
    [ ! -f /etc/pip.conf ] || cp /etc/pip.conf "$2/etc/"
    [ ! -f ~/.config/pip/pip.conf ] || cp ~/.config/pip/pip.conf "$2/root/.config/pip/"
}

# in_root FOLDER COMMAND...: runs COMMAND by chroot, with this machine's /proc, /sys and /dev. The mounts live in their
# own mount namespace, so they go away with it whatever happens. MOUNTS can add commands for more, below $root.
in_root() {
    local root=$1 settings=() line
    shift
    while IFS= read -r line; do settings+=("$line"); done < <(
        env | grep -iE '^(PIP_[A-Z_]*|[a-z]*_proxy|SSL_CERT_FILE|SSL_CERT_DIR|MMWATCH_[A-Z_]*)='
    )
    # shellcheck disable=SC2016  # expanded inside
    unshare --mount --propagation private sh -euc '
        root=$1; shift
        mount --bind "$root" "$root" # must be a mount point, so that COMMAND can unshare mounts in turn
        for folder in proc sys dev; do mount --rbind "/$folder" "$root/$folder"; done
        eval "${MOUNTS-}"
        exec chroot "$root" "$@"
    ' sh "$root" env -i HOME=/root TERM=dumb LANG=C.UTF-8 \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${settings[@]}" "$@" </dev/null
}
