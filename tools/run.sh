#!/bin/sh
# Serves a tree below a directory in the foreground until Ctrl-C, and prints commands to try; `make run`
# calls it: run.sh PROGRAMS DIRECTORY NODE, where PROGRAMS is the directory of the built programs.
set -eu

# A path as one word of a command line, unquoted if it needs no quotes.
word() {
    case $1 in
        *[!A-Za-z0-9_./+:@%,-]*) printf "'%s'\n" "$(printf '%s\n' "$1" | sed "s/'/'\\\\''/g")" ;;
        *) printf '%s\n' "$1" ;;
    esac
}

mkdir -p -- "$2"
programs=$(cd -- "$1" && pwd)
root=$(cd -- "$2" && pwd)
node=$3
service=pve2-$node
tree=$(word "$root/etc/pve")
database=$(word "$root/var/lib/pve-cluster/config.db")
guests=$(word "$root/etc/pve/nodes/$node/qemu-server")
guest=$(word "$root/etc/pve/nodes/$node/qemu-server/100.conf")

cat <<EOF

  tree       $tree
  database   $database
  service    $service

  In another terminal, try:
    $(word "$programs/pmxcfs-ctl") --service $service status
    cat $tree/.version
    mkdir -p $guests
    echo 'name: first' > $guest
    cat $tree/.vmlist
    sqlite3 $database 'select inode, name from tree'
  Ctrl-C ends it.

EOF
exec "$programs/pmxcfs" --foreground --local --root "$root" --node "$node" --ip 192.0.2.1 --service "$service"
