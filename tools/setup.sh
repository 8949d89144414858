#!/bin/sh
# Installs what building, running and testing needs on Debian 12 or 13. Does nothing when all is there.
set -eu
cd "$(dirname "$0")/.."

RUST_NEEDED=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)

# Build: a C compiler and linker, certificates to reach the crates, SQLite, librrd and what its bindings
# are made with, corosync's client libraries.
# Run: rrdcached, sqlite3 to look into the database. Tests: libqb, Perl and what its modules are built with,
# C++, valgrind, rrdtool, a corosync of their own.
PACKAGES="gcc libc6-dev make pkg-config ca-certificates libsqlite3-dev librrd-dev libclang-dev
libcfg-dev libcmap-dev libcpg-dev libquorum-dev libvotequorum-dev
libqb-dev libperl-dev g++ valgrind
corosync rrdcached rrdtool sqlite3 iproute2 util-linux"

if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: this is no Debian; needed are what Debian calls: $PACKAGES, and Rust $RUST_NEEDED" >&2
    exit 1
fi

missing=""
# shellcheck disable=SC2086
installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' $PACKAGES 2>/dev/null || true)
for package in $PACKAGES; do
    printf '%s\n' "$installed" | grep -qx "installed $package" || missing="$missing $package"
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
    echo "setup: Rust $RUST_NEEDED or newer is needed, found: $(cargo --version 2>/dev/null || echo none)" >&2
    exit 1
fi
if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
    echo "setup: rustfmt or clippy is missing: 'make check' leaves out what it is for" >&2
fi
if [ ! -c /dev/fuse ]; then
    echo "setup: /dev/fuse is missing: modprobe fuse; in a container, let it have the device" >&2
    exit 1
fi
getent group www-data >/dev/null || { echo "setup: the group www-data is missing: groupadd -r www-data" >&2; exit 1; }
