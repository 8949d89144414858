#!/bin/sh
# Checks the dependencies against deny.toml: licences, duplicates, sources and known vulnerabilities. `make
# lint` calls it: deny.sh TARGET_DIR. A missing cargo-deny is installed below TARGET_DIR. Without network it
# skips some checks, and reports them as not checked.
set -eu
cd "$(dirname "$0")/.."

# Newest version that builds with the oldest compiler of the project.
VERSION=0.18.3
tools=$1/tools

not_checked() {
    echo "deny: NOT CHECKED: $1" >&2
}

if command -v cargo-deny >/dev/null 2>&1; then
    deny=cargo-deny
else
    deny=$tools/bin/cargo-deny
fi
if ! "$deny" --version >/dev/null 2>&1; then
    echo "deny: installing cargo-deny $VERSION in $tools; it takes some minutes, once"
    # Unoptimized: it builds in half the time, and checks in a second.
    if ! cargo install --quiet --locked --debug --root "$tools" cargo-deny --version "$VERSION"; then
        not_checked "licences, duplicates, sources and advisories of dependencies: cargo-deny cannot be installed"
        exit 0
    fi
fi

# Reading the list of dependencies needs the sources of all of them, including those of other platforms.
if ! cargo fetch --quiet --locked; then
    not_checked "licences, duplicates, sources and advisories of dependencies: their sources cannot be downloaded"
    exit 0
fi

checks="bans licenses sources"
if timeout 120 "$deny" --log-level off fetch db >/dev/null 2>&1; then
    checks="advisories $checks"
else
    not_checked "advisories: the database of known vulnerabilities cannot be downloaded (cargo deny fetch db)"
fi
# shellcheck disable=SC2086
exec "$deny" --locked --offline check $checks
