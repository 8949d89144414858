#!/bin/sh
# enter.sh STEP: makes the mounts of a root, enters it and runs a step of steps.sh there. check-debian.sh runs
# it as the first process of its namespaces, which end with it.
set -eu
umask 022

[ "$NETWORK" = host ] || ip link set lo up
hostname debian-minimal

# pivot_root needs a root that is a mount point.
[ "$ENTER" = chroot ] || mount --bind "$ROOT" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount -t sysfs -o ro sysfs "$ROOT/sys"
mount -t tmpfs -o mode=0755 tmpfs "$ROOT/run"
mkdir "$ROOT/run/lock"
mount -t tmpfs -o mode=0755 tmpfs "$ROOT/dev"
for node in null zero full random urandom tty fuse; do
    : >"$ROOT/dev/$node"
    mount --bind "/dev/$node" "$ROOT/dev/$node"
done
mkdir "$ROOT/dev/pts" "$ROOT/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$ROOT/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$ROOT/dev/shm"
ln -s pts/ptmx "$ROOT/dev/ptmx"
ln -s /proc/self/fd "$ROOT/dev/fd"
for number in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${number%:*}" "$ROOT/dev/${number#*:}"; done

mount --bind "$DEBS" "$ROOT/var/cache/apt/archives"
mount --bind "$CRATES" "$ROOT/root/.cargo/registry"
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
if [ "$RUST" = rustup ]; then
    mount --bind -o ro "$TOOLCHAINS" "$ROOT/root/.rustup"
    mount --bind -o ro "$PROXIES" "$ROOT/root/.cargo/bin"
    path=/root/.cargo/bin:$path
fi

# The environment of a login, plus the settings by which the network is reached.
set -- "HOME=/root" "PATH=$path" "TERM=${TERM:-dumb}" "CHECK=$CHECK" "RELEASE=$RELEASE" "RUST=$RUST" \
    "$CLONE/tools/check-debian/steps.sh" "$@"
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY CARGO_HTTP_PROXY CARGO_HTTP_TIMEOUT \
    CARGO_HTTP_MULTIPLEXING CARGO_NET_RETRY CARGO_BUILD_JOBS; do
    eval "value=\${$name:-}"
    [ -z "$value" ] || set -- "$name=$value" "$@"
done

if [ "$ENTER" = chroot ]; then
    chroot "$ROOT" env -i "$@"
    exit
fi
cd "$ROOT"
pivot_root . .
umount --lazy .
cd /
env -i "$@"
exit
