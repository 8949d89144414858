#!/bin/sh
# Installs what Debian 12 or 13 lacks: setup.sh build|run|check, each with what is before it. Does nothing
# when all is there. `setup.sh list` prints the packages.
set -eu
cd "$(dirname "$0")/.."
purpose=${1:-check}

RUST_NEEDED=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)

# A C compiler and linker, certificates to reach the crates, SQLite, librrd's header and what its
# declarations are made with, corosync's client libraries.
BUILD="gcc libc6-dev make pkgconf ca-certificates libsqlite3-dev librrd-dev libclang-dev
libcfg-dev libcmap-dev libcpg-dev libquorum-dev libvotequorum-dev"
# To look into the database.
RUN="sqlite3"
# libqb and librrd as stock has them, Perl and what its modules are built with, C++ and tools for binaries,
# valgrind, a corosync in network namespaces.
CHECK="libqb-dev perl libperl-dev g++ binutils valgrind rrdtool rrdcached corosync iproute2"

case $purpose in
    build) packages=$BUILD ;;
    run) packages="$BUILD $RUN" ;;
    check) packages="$BUILD $RUN $CHECK" ;;
    list) echo "$BUILD $RUN $CHECK" && exit ;;
    *) echo "usage: setup.sh [build|run|check|list]" >&2; exit 2 ;;
esac
packages=$(echo $packages)

if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: this is no Debian; needed are Rust $RUST_NEEDED and what Debian calls: $packages" >&2
    exit 1
fi

missing=""
# shellcheck disable=SC2086
installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' $packages 2>/dev/null || true)
for package in $packages; do
    printf '%s\n' "$installed" | grep -qxF "installed $package" || missing="$missing $package"
done

rust_is_new_enough() {
    command -v cargo >/dev/null 2>&1 || return 1
    found=$(cargo --version | cut -d' ' -f2)
    [ "$(printf '%s\n%s\n' "$RUST_NEEDED" "$found" | sort -V | head -n1)" = "$RUST_NEEDED" ]
}

if ! rust_is_new_enough; then
    # Debian 13 has a new enough Rust under its own name, Debian 12 under that of its browser builds.
    . /etc/os-release
    if [ "${VERSION_ID:-}" = 12 ]; then missing="$missing cargo-web rustc-web"; else missing="$missing cargo rustc"; fi
fi

if [ -n "$missing" ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "setup: run as root, or install first:$missing" >&2
        exit 1
    fi
    echo "setup: installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    # A machine that was just set up may be at its first upgrade.
    apt="apt-get -qq -o DPkg::Lock::Timeout=600"
    $apt update
    # shellcheck disable=SC2086
    $apt install -y --no-install-recommends $missing >/dev/null
fi

if ! rust_is_new_enough; then
    echo "setup: Rust $RUST_NEEDED or newer is needed; first in PATH is" \
        "$(command -v cargo || echo none), $(cargo --version 2>/dev/null || echo 'which does not run')" >&2
    exit 1
fi
if [ "$purpose" = build ]; then
    exit 0
fi

if [ ! -c /dev/fuse ]; then
    echo "setup: /dev/fuse is missing: modprobe fuse; in a container, let it have the device" >&2
    exit 1
fi
getent group www-data >/dev/null || { echo "setup: the group www-data is missing: groupadd -r www-data" >&2; exit 1; }
