#!/bin/sh
# Fuzzes one target, or all in turn, for so many seconds each. Needs a nightly toolchain and cargo-fuzz.
set -eu
cd "$(dirname "$0")/.."
target=$1
seconds=$2

if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "fuzz: cargo-fuzz is missing: cargo install cargo-fuzz" >&2
    exit 1
fi
if [ "$target" = all ]; then
    targets=$(sed -n 's/^name = "\(.*\)"$/\1/p' fuzz/Cargo.toml | grep -v '^pmxcfs-fuzz$')
else
    targets=$target
fi
for name in $targets; do
    cargo +nightly fuzz run "$name" -- -max_total_time="$seconds" -timeout=10
done
