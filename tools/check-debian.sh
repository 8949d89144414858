#!/bin/bash
# Runs the commands of a new user in a minimal Debian made by debootstrap: `make build`, `make run`, `make
# check`, `make deb` and the installation of its packages. Tests the last commit, without uncommitted changes.
#
#   RELEASE=13|12       Debian's version
#   WHERE=/root         directory in the root to clone to; may contain spaces
#   RUST=debian|rustup  the release's own Rust, or the rustup of this machine, read-only
#   PARTS="run check deb"
#   CHECK="make check"  command of the part `check`
#   ENTER=pivot|chroot  with chroot, / is no mount point in the root
#   KEEP=1              keep the root for the next run with KEEP=1; for work on a fault
#   CACHE=target/debian base systems, packages and crates, kept between runs
#   MIRROR, SECURITY    archives; by default those of this machine's apt
#
# Mounts, processes and network are in namespaces that end with this script, however it ends; the next run
# deletes a root that was left. The exit code is 77 if this machine cannot have such namespaces or debootstrap.
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."

RELEASE=${RELEASE:-13}
WHERE=${WHERE:-/root}
RUST=${RUST:-debian}
PARTS=${PARTS:-run check deb}
CHECK=${CHECK:-make check}
ENTER=${ENTER:-pivot}
CACHE=${CACHE:-${CARGO_TARGET_DIR:-target}/debian}

say() { echo "check-debian: $*"; }
fail() { say "$*" >&2; exit 1; }
unable() { say "skipped: $*" >&2; exit 77; }

case $RELEASE in
    12) suite=bookworm ;;
    13) suite=trixie ;;
    *) fail "RELEASE is 12 or 13, not '$RELEASE'" ;;
esac
case $WHERE in /*) ;; *) fail "WHERE is an absolute path, not '$WHERE'" ;; esac
case $ENTER in pivot | chroot) ;; *) fail "ENTER is pivot or chroot, not '$ENTER'" ;; esac
case $RUST in debian | rustup) ;; *) fail "RUST is debian or rustup, not '$RUST'" ;; esac
if [ "$RUST" = rustup ] && ! command -v rustup >/dev/null; then fail "RUST=rustup: this machine has no rustup"; fi

[ "$(id -u)" = 0 ] || unable "only root can make a root"
# shellcheck disable=SC2054
# A signal that a shell ignores for commands in the background gets its default effect back.
ns=(env --default-signal=INT,QUIT setpriv --pdeathsig KILL
    unshare --mount --pid --fork --kill-child --uts --ipc)
"${ns[@]}" --net true || unable "this machine allows no namespaces"

needed=()
command -v debootstrap >/dev/null || needed+=(debootstrap debian-archive-keyring)
command -v ip >/dev/null || needed+=(iproute2)
if [ "${#needed[@]}" != 0 ]; then
    command -v apt-get >/dev/null || unable "missing: ${needed[*]}"
    say "installing ${needed[*]}"
    apt-get -qq -o DPkg::Lock::Timeout=600 update
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 install -y --no-install-recommends \
        "${needed[@]}" >/dev/null
fi

# Only one run at a time may use the cache of a release.
mkdir -p "$CACHE"
CACHE=$(realpath "$CACHE")
base=$CACHE/$RELEASE.tar
exec 9>"$CACHE/$RELEASE.lock"
flock --nonblock 9 || { say "waiting for another run on Debian $RELEASE"; flock 9; }

# An archive of this machine's apt, by label.
archive() {
    command -v apt-get >/dev/null || return 0
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(LABEL) $(REPO_URI)' | sed -n "s/^$1 //p" | sed -n 1p
}

MIRROR=${MIRROR:-$(archive Debian)}
SECURITY=${SECURITY:-$(archive Debian-Security)}
if [ -z "${http_proxy:-}" ] && command -v apt-config >/dev/null; then
    eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
    [ -z "${http_proxy:-}" ] || export http_proxy
fi

child=
root=
# shellcheck disable=SC2317
clean_up() {
    if [ -n "$child" ]; then
        kill -KILL "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    fi
    if [ -n "$root" ] && [ -z "${KEEP:-}" ]; then rm -rf --one-file-system "$root"; fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Runs a command in the background and waits, so that a signal takes effect immediately.
run() {
    "$@" </dev/null 9>&- &
    child=$!
    local status=0
    wait "$child" || status=$?
    child=
    return "$status"
}

# This directory becomes /: users other than root must be able to enter it.
new_root() {
    root=$(mktemp -d "$CACHE/root-$RELEASE.XXXXXX")
    chmod 0755 "$root"
}

# Roots left by a killed run. Their mounts ended with its namespaces.
rm -rf --one-file-system "$CACHE/root-$RELEASE".*

if [ ! -e "$base" ]; then
    say "making a minimal Debian $RELEASE"
    new_root
    log=$CACHE/$RELEASE.log
    # shellcheck disable=SC2086
    run "${ns[@]}" debootstrap --variant=minbase --include=git,make "$suite" "$root" ${MIRROR:+"$MIRROR"} \
        >"$log" 2>&1 || { tail -n 20 "$log" >&2; fail "debootstrap failed; all it said is in $log"; }
    tar --create --numeric-owner --one-file-system --xattrs --directory "$root" --file "$base.new" .
    mv "$base.new" "$base"
    rm -rf --one-file-system "$root"
fi

if [ -n "${KEEP:-}" ]; then mkdir -p "$CACHE/kept-$RELEASE" && root=$CACHE/kept-$RELEASE; else new_root; fi
if [ ! -e "$root/etc/debian_version" ]; then
    tar --extract --numeric-owner --xattrs --xattrs-include='*' --directory "$root" --file "$base"
fi

# Settings of this machine's administrator by which archives and crates are reached.
configure() {
    local updates="$suite-updates" sources=$root/etc/apt/sources.list
    rm -f "$root/etc/resolv.conf"
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    if [ -n "$MIRROR" ]; then
        printf 'deb %s %s main\n' "$MIRROR" "$suite" "$MIRROR" "$updates" >"$sources"
        [ -z "$SECURITY" ] || echo "deb $SECURITY $suite-security main" >>"$sources"
    fi
    if command -v apt-config >/dev/null; then
        apt-config dump | grep '^Acquire::' | grep -v '::Proxy-Auto-Detect ' >"$root/etc/apt/apt.conf.d/99machine"
    fi
    if [ -d /usr/local/share/ca-certificates ]; then
        cp -rL /usr/local/share/ca-certificates "$root/usr/local/share/"
    fi
    mkdir -p "$root/root/.cargo/bin" "$root/root/.rustup" "$root/root/.cargo/registry"
    for name in config.toml config; do
        if [ -e "${CARGO_HOME:-$HOME/.cargo}/$name" ]; then
            cp -L "${CARGO_HOME:-$HOME/.cargo}/$name" "$root/root/.cargo/"
        fi
    done
}
configure

clone=$WHERE/pmxcfs
[ -z "$(git status --porcelain 2>/dev/null)" ] || say "what is not committed is not tested"
mkdir -p "$root$WHERE"
if [ -d "$root$clone" ]; then
    git -c safe.directory='*' -C "$root$clone" fetch --quiet --depth 1 "file://$PWD" HEAD
    git -c safe.directory='*' -C "$root$clone" reset --quiet --hard FETCH_HEAD
else
    git clone --quiet --depth 1 "file://$PWD" "$root$clone"
fi

# Inputs of the root from outside: enter.sh makes the mounts.
mkdir -p "$CACHE/$RELEASE-debs/partial" "$CACHE/$RELEASE-$RUST-crates"
variables=(ROOT="$root" CLONE="$clone" ENTER="$ENTER" CHECK="$CHECK" RUST="$RUST" RELEASE="$RELEASE"
    DEBS="$CACHE/$RELEASE-debs" CRATES="$CACHE/$RELEASE-$RUST-crates")
if [ "$RUST" = rustup ]; then
    variables+=(TOOLCHAINS="${RUSTUP_HOME:-$HOME/.rustup}" PROXIES="$(dirname "$(command -v rustup)")")
fi

times=()
# step NETWORK NAME: NETWORK is host or loopback.
step() {
    local begin=$SECONDS network=()
    [ "$1" = host ] || network=(--net)
    say "Debian $RELEASE, $clone, Rust of $RUST: $2"
    run env "${variables[@]}" NETWORK="$1" "${ns[@]}" "${network[@]}" tools/check-debian/enter.sh "$2" ||
        fail "$2 failed on Debian $RELEASE in $clone with the Rust of $RUST after $((SECONDS - begin)) s"
    times+=("$2 $((SECONDS - begin)) s")
}

for part in $PARTS; do
    case $part in
        run) step host setup-run && step loopback build && step loopback run ;;
        check) step host setup-check && step loopback check ;;
        deb) step host setup-deb && step loopback deb && step host install && step loopback installed ;;
        *) fail "PARTS are of run, check and deb; there is no '$part'" ;;
    esac
done
printf -v text '%s, ' "${times[@]}"
say "passed on Debian $RELEASE in $clone with the Rust of $RUST: ${text%, }"
