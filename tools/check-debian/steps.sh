#!/bin/sh
# steps.sh STEP: a step of check-debian.sh in the root, in the directory of the clone, as a new user runs it.
set -eu
cd "$(dirname "$0")/../.."

fail() { echo "check-debian: $*" >&2; exit 1; }

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y "$@" >/dev/null
}

# Makes a directory with the programs that the project lists as its needs.
link_listed_programs() {
    rm -rf /opt/listed
    mkdir -p /opt/listed
    sed '/^#/d; /^$/d' tools/programs.txt | while read -r program package optional; do
        # Not `command -v`, which also finds builtins of the shell.
        path=$(printf '%s' "$PATH" | tr : '\n' | sed "s,\$,/$program," | xargs ls 2>/dev/null | sed -n 1p)
        if [ -n "$path" ] && [ "$(head -c 2 "$path")" = '#!' ]; then
            # A script can look for its parts beside itself, as Debian's valgrind does.
            printf '#!/bin/sh\nexec %s "$@"\n' "$path" >"/opt/listed/$program"
            chmod 0755 "/opt/listed/$program"
        elif [ -n "$path" ]; then
            ln -s "$path" "/opt/listed/$program"
        elif [ -z "$optional" ]; then
            fail "make setup did not install $program of $package"
        fi
    done
}

# Waits up to a minute for a condition while the process $1 runs.
wait_for() {
    process=$1 what=$2
    shift 2
    for _ in $(seq 600); do
        if "$@" 2>/dev/null; then return; fi
        kill -0 "$process" 2>/dev/null || fail "the program ended before $what"
        sleep 0.1
    done
    fail "waited a minute in vain: $what"
}

# `make run` in a separate session, as on a terminal; then the commands that it prints; then Ctrl-C.
serve() {
    log=/var/tmp/make-run.log
    env --default-signal=INT setsid make run >$log 2>&1 &
    server=$!
    wait_for $server "the tree is served" test -e run/etc/pve/.version || { cat $log; exit 1; }
    cat $log
    sed -n '/In another terminal/,/Ctrl-C/s/^    //p' $log >/var/tmp/try
    # A path with a space is quoted.
    for command in "pmxcfs-ctl'\{0,1\} .* status" 'cat .*/.version' 'echo .* > .*100.conf'; do
        grep -q "$command" /var/tmp/try || fail "make run did not print a command like '$command'"
    done
    wait_for $server "the service answers" sh -c "$(grep pmxcfs-ctl /var/tmp/try) >/dev/null"
    (cd / && sh -eux /var/tmp/try)
    [ "$(cat run/etc/pve/nodes/demo/qemu-server/100.conf)" = "name: first" ] || fail "what was written is not read"
    kill -INT -$server
    wait $server || true
    if mountpoint -q run/etc/pve; then fail "the tree is still mounted after Ctrl-C"; fi
}

# Tools that the README names, as apt installs them by default, and lintian.
setup_deb() {
    packages=$(sed -n 's/^make deb .*apt install \(.*\) first$/\1/p' README.md)
    [ -n "$packages" ] || fail "README.md does not say what make deb needs"
    # shellcheck disable=SC2086
    apt_get install $packages
    apt_get install --no-install-recommends lintian
}

make_deb() {
    make --no-print-directory deb
    [ -n "$(ls target/deb/*.deb)" ] || fail "there are no packages"
}

# Uses the installed packages: a daemon with its tools, clients in C and in Perl.
use_installed() {
    node=/var/tmp/installed
    names=$(for deb in target/deb/*.deb; do dpkg-deb --field "$deb" Package; done)
    # shellcheck disable=SC2086
    changed=$(dpkg --verify $names)
    [ -z "$changed" ] || fail "installed files differ: $changed"
    mkdir -p $node
    pmxcfs --foreground --local --root $node --node installed --ip 192.0.2.1 --service pve2-installed &
    server=$!
    wait_for $server "the tree is served" pmxcfs-ctl --service pve2-installed --root $node status
    echo text >$node/etc/pve/file
    [ "$(pmxcfs-ctl --service pve2-installed get file file)" = text ] || fail "what was written is not read"
    kill $server
    wait $server
    pmxcfs-db check $node/var/lib/pve-cluster/config.db
    # shellcheck disable=SC2046
    cc -o /var/tmp/client ffi-tests/pmxcfs_client.c $(pkg-config --cflags --libs pmxcfs) -lpthread
    /var/tmp/client fds
    perl -MPmxcfs::IPCC -e 'print "Pmxcfs::IPCC $Pmxcfs::IPCC::VERSION\n"'
    # shellcheck disable=SC2086
    apt_get purge $names
    for path in /usr/bin/pmxcfs /usr/bin/pmxcfs-ctl /usr/include/pmxcfs.h; do
        [ ! -e $path ] || fail "$path is left after purge"
    done
}

case $1 in
    setup-run) make --no-print-directory setup-run && cargo fetch --quiet --locked ;;
    build) make --no-print-directory build ;;
    run) serve ;;
    setup-check) make --no-print-directory setup && cargo fetch --quiet --locked ;;
    check)
        link_listed_programs
        PATH=/opt/listed sh -euc "$CHECK"
        ;;
    setup-deb) setup_deb ;;
    deb) make_deb ;;
    install) apt_get install ./target/deb/*.deb ;;
    installed) use_installed ;;
    *) fail "there is no step '$1'" ;;
esac
