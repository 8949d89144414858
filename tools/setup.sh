#!/bin/sh
# Installs what building, running and testing needs on Debian 12 or 13. Does nothing when all is there.
set -eu

# Oldest Rust that builds the project; the same number as rust-version in Cargo.toml.
RUST_NEEDED=1.85

# Build: a C compiler and linker, certificates to reach the crates, SQLite, librrd and what its bindings
# are made with, corosync's client libraries.
# Run: rrdcached, sqlite3 to look into the database. Tests: libqb, rrdtool, a corosync of their own.
PACKAGES="gcc libc6-dev make pkg-config ca-certificates libsqlite3-dev librrd-dev libclang-dev
libcfg-dev libcmap-dev libcpg-dev libquorum-dev libvotequorum-dev
libqb-dev corosync rrdcached rrdtool sqlite3 iproute2 util-linux procps python3-minimal"

missing=""
for package in $PACKAGES; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
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
    apt-get -qq update
    # shellcheck disable=SC2086
    apt-get -qq install -y --no-install-recommends $missing >/dev/null
fi

if ! rust_is_new_enough; then
    echo "setup: Rust $RUST_NEEDED or newer is needed, found: $(cargo --version 2>/dev/null || echo none)" >&2
    exit 1
fi
if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
    echo "setup: without rustfmt and clippy 'make check' leaves out format and lints" >&2
fi
[ -c /dev/fuse ] || { echo "setup: /dev/fuse is missing: load the module 'fuse'" >&2; exit 1; }
getent group www-data >/dev/null || { echo "setup: the group www-data is missing: groupadd -r www-data" >&2; exit 1; }
