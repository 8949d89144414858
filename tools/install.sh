#!/bin/sh
# Installs and removes one part of the project for `make install-PART` and `make uninstall-PART`.
#
#   install.sh put PART COMMAND...    has COMMAND stage the part's files below $STAGE, then copies them to $DESTDIR
#   install.sh take PART              removes the files that the last `put` of PART recorded
#
# $LISTS is the directory of the records, below $DESTDIR: one file for each part with its files and the directories that
# were made for it. Files of Debian packages are neither replaced nor removed: dpkg is asked for each, in the database
# of $DESTDIR. Without $DESTDIR the Perl modules of the running system are checked too: PVE::IPCC must work after it
# if it worked before.
set -eu
umask 022

verb=$1 part=$2
shift 2
root=${DESTDIR:-}
list=$root$LISTS/$part
if [ "$verb" = put ]; then tool="make install-$part"; else tool="make uninstall-$part"; fi

fail() {
    printf '%s: %s\n' "$tool" "$*" >&2
    exit 1
}

note() {
    printf '%s: %s\n' "$tool" "$*" >&2
}

# The lines of a record of one kind: f for files, d for directories.
recorded() {
    if [ -e "$2" ]; then sed -n "s/^$1 //p" "$2"; fi
}

# Reads paths; prints "PACKAGES: PATH" for each that belongs to a package. A package can know a path below /usr by its
# name of before the directories were merged.
owned() {
    [ -e "$root/var/lib/dpkg/status" ] && command -v dpkg-query >/dev/null || return 0
    set --
    while IFS= read -r path; do
        set -- "$@" "$path"
        case $path in
            /usr/bin/* | /usr/sbin/* | /usr/lib*) [ ! -L "$root/bin" ] || set -- "$@" "${path#/usr}" ;;
        esac
    done
    [ $# = 0 ] || dpkg-query --admindir="$root/var/lib/dpkg" --search "$@" 2>/dev/null | grep -v '^diversion by ' || true
}

# Whether a Perl module loads: works, broken, or missing.
perl_module() {
    perl ${2:+-I "$2"} -e '
        my $file = $ARGV[0] =~ s,::,/,gr . ".pm";
        print eval { require $file } ? "works" : (grep { -e "$_/$file" } @INC) ? "broken" : "missing"' "$1" 2>/dev/null
}

# Of the system that runs; nothing for another root.
perl_modules() {
    [ -z "$root" ] && command -v perl >/dev/null || return 0
    echo "PVE::IPCC $(perl_module PVE::IPCC) Pmxcfs::IPCC $(perl_module Pmxcfs::IPCC)"
}

# Makes a directory, and records those that were missing.
make_dir() {
    [ -d "$root$1" ] || {
        make_dir "$(dirname "$1")"
        mkdir -m 0755 "$root$1"
        printf 'd %s\n' "$1" >>"$work/record"
    }
}

put() {
    STAGE=$work/stage
    mkdir "$STAGE"
    "$@" STAGE="$STAGE" >&2
    (cd "$STAGE" && find . ! -type d) | sed 's,^\.,,' | sort >"$work/files"
    owners=$(owned <"$work/files")
    [ -z "$owners" ] || {
        note "these files belong to packages; 'make deb' and install the packages, or choose PREFIX=/usr/local:"
        printf '%s\n' "$owners" >&2
        exit 1
    }
    check_staged_modules
    [ -z "$root" ] || mkdir -p "$root"
    recorded d "$list" | sed 's/^/d /' >"$work/record"
    recorded f "$list" | grep -vxF -f "$work/files" >"$work/former" || true
    make_dir "$LISTS"
    if [ "$part" = perl-instead ]; then
        # Of the module that was there before ours.
        if [ -e "$list" ]; then
            grep -x instead-of-working "$list" >>"$work/record" || true
        else
            echo "$before" | sed -n 's/^PVE::IPCC works .*/instead-of-working/p' >>"$work/record"
        fi
    fi
    sed 's/^/f /' "$work/files" >>"$work/record"
    # Before the first file, so that an interrupted installation can be removed.
    cp "$work/record" "$list"
    while IFS= read -r path; do
        make_dir "$(dirname "$path")"
        cp -P -p "$STAGE$path" "$root$path.pmxcfs-new"
        mv -f -T "$root$path.pmxcfs-new" "$root$path"
    done <"$work/files"
    remove_files <"$work/former"
    cp "$work/record" "$list"
    refresh_loader
}

# A module that does not load is not installed: it would take the place of one that does.
check_staged_modules() {
    [ -z "$root" ] || return 0
    case $part in
        perl) module=Pmxcfs::IPCC ;;
        perl-instead) module=PVE::IPCC ;;
        *) return 0 ;;
    esac
    place=$(sed -n 's,/[^/]*/IPCC\.pm$,,p' "$work/files" | head -n 1)
    [ "$(perl_module $module "$STAGE$place")" = works ] ||
        fail "$module does not load: 'make install-lib' first, or install the package libpmxcfs1"
}

# Reads paths and removes those that no package has taken over.
remove_files() {
    cat >"$work/doomed"
    owned <"$work/doomed" | sed 's/^[^/]*: //' >"$work/kept"
    while IFS= read -r path; do
        if grep -qxF -e "$path" -e "${path#/usr}" "$work/kept"; then
            note "$path now belongs to a package, and stays"
        else
            rm -f "$root$path"
        fi
    done <"$work/doomed"
}

# Removes directories that were made for the part, the deepest first. One that other parts use becomes theirs.
remove_dirs() {
    sort -r -u | while IFS= read -r dir; do
        rmdir "$root$dir" 2>/dev/null && continue
        for other in "$root$LISTS"/*; do
            printf 'f %s/\n' "$LISTS" | cat - "$other" 2>/dev/null | grep -q "^f $dir/" && [ -e "$other" ] || continue
            printf 'd %s\n' "$dir" >>"$other"
            break
        done
    done
}

# Parts that do not work without this one.
check_dependents() {
    case $part in
        lib) needs=perl ;;
        perl) needs=perl-instead ;;
        *) return 0 ;;
    esac
    [ ! -e "$root$LISTS/$needs" ] || fail "'make uninstall-$needs' first, which does not work without it"
}

take() {
    [ -e "$list" ] || {
        note "nothing is recorded in $list: not installed with this PREFIX and DESTDIR"
        return 0
    }
    check_dependents
    recorded f "$list" >"$work/files"
    save_files
    remove_files <"$work/files"
    refresh_loader
    check_modules_left
    recorded d "$list" >"$work/dirs"
    rm -f "$list"
    remove_dirs <"$work/dirs"
}

# Copies of the files, in case that something needs them after all.
save_files() {
    [ -z "$root" ] || return 0
    mkdir "$work/saved"
    while IFS= read -r path; do
        mkdir -p "$work/saved$(dirname "$path")"
        [ ! -e "$path" ] && [ ! -L "$path" ] || cp -P -p "$path" "$work/saved$path"
    done <"$work/files"
}

# Puts the files back and fails if a Perl module that worked is broken now, or if no PVE::IPCC is left where there was
# one before ours.
check_modules_left() {
    after=$(perl_modules)
    [ "$before" != "$after" ] && [ "${FORCE:-no}" != yes ] || return 0
    lost=""
    case "$before -> $after" in
        "PVE::IPCC works "*" -> PVE::IPCC broken "*) lost=PVE::IPCC ;;
        "PVE::IPCC works "*" -> PVE::IPCC missing "*) ! grep -qx instead-of-working "$list" || lost=PVE::IPCC ;;
    esac
    case "$before -> $after" in
        *"Pmxcfs::IPCC works -> "*"Pmxcfs::IPCC broken") lost=${lost:-Pmxcfs::IPCC} ;;
    esac
    [ -z "$lost" ] && return 0
    cp -P -p -R "$work/saved/." /
    refresh_loader
    fail "refused: without it the Perl module $lost no longer loads; nothing was changed." \
        "Uninstall what uses it first, or add FORCE=yes"
}

# The loader finds libraries by its cache.
refresh_loader() {
    [ "$part" = lib ] && [ -z "$root" ] || return 0
    [ "$(id -u)" = 0 ] && command -v ldconfig >/dev/null && ldconfig || {
        note "run ldconfig as root, so that programs find the library"
        return 0
    }
    [ "$verb" = put ] || return 0
    library=$(sed -n 's,.*/\(libpmxcfs\.so\.[0-9]*\)$,\1,p' "$work/files")
    ldconfig -p | grep -q "^[[:space:]]*$library " ||
        note "the loader does not search this directory: name it in /etc/ld.so.conf.d and run ldconfig"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: >"$work/record"
before=$(perl_modules)
"$verb" "$@"
