# The verbs of the project. `make check` is the one gate; everything it needs it installs.
CARGO ?= cargo
RUN_DIR ?= run
RUN_NODE ?= demo

# The C libraries: built apart, without what only the daemon needs.
LIBRARIES = -p libpmxcfs -p libpmxcfs-qb

.PHONY: all build setup setup-build setup-run run check fmt fmt-check lint doc test sim soak smoke bench fuzz \
	clean build-lib headers build-perl build-programs install uninstall completions deb check-debian \
	$(foreach verb,install uninstall stage,$(addprefix $(verb)-,lib programs perl perl-instead))

# Cargo uses all cores by itself.
.NOTPARALLEL:

all: build

## What all verbs need; those which need less ask for less.
SETUP ?= tools/setup.sh

setup:
	@$(SETUP) check

setup-build:
	@$(SETUP) build

setup-run:
	@$(SETUP) run

build: setup-build
	$(CARGO) build --release --locked

## Serves a tree below RUN_DIR until Ctrl-C. Changes nothing outside of RUN_DIR.
run: export RUN_DIR := $(RUN_DIR)
run: export RUN_NODE := $(RUN_NODE)
run: setup-run build
	@exec tools/run.sh "$(CARGO_TARGET_DIR)/release" "$$RUN_DIR" "$$RUN_NODE"

check: setup fmt-check lint doc test smoke build

fmt: setup-build
	$(CARGO) fmt

fmt-check: setup-build
	@if $(CARGO) fmt --version >/dev/null 2>&1; then $(CARGO) fmt --check; else echo "no rustfmt: format not checked"; fi

## Style of the code, and licences and known faults of dependencies; DENY=no skips the dependencies.
DENY ?= yes
lint: setup-build
	@if $(CARGO) clippy --version >/dev/null 2>&1; then \
		$(CARGO) clippy --locked --all-targets -- -D warnings && \
		$(CARGO) clippy --locked --all-targets $(LIBRARIES) -- -D warnings; \
	else echo "no clippy: lints not checked"; fi
	@if [ "$(DENY)" != no ]; then tools/deny.sh "$(CARGO_TARGET_DIR)"; else echo "DENY=no: dependencies not checked"; fi

doc: setup-build
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items $(LIBRARIES)

test: setup
	$(CARGO) test --locked $(LIBRARIES)
	$(CARGO) test --locked

## The commands of README.md in a fresh minimal Debian, in namespaces of its own; tools/check-debian.sh has the
## variables: make check-debian RELEASE=12 WHERE="/srv/with space" RUST=rustup PARTS="run check deb"
check-debian:
	@tools/check-debian.sh

## The C libraries, their headers and what finds them, for C programs and to run programs of libqb on.
PREFIX ?= /usr
LIBDIR ?= $(PREFIX)/lib/$(shell $(CC) -print-multiarch)
INCLUDEDIR ?= $(PREFIX)/include
# release, or dev for a build that is quick
PROFILE ?= release
CARGO_TARGET_DIR ?= target
LIB_OUT = $(CARGO_TARGET_DIR)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
LIB_VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
# Number of the binary interface, independent of the project's version. It goes up when a program that was built
# against the library could no longer run with it. Packages are named after it.
LIB_ABI = 1
# Where the loader finds a libqb only if it is told to.
QB_LIBDIR = $(LIBDIR)/pmxcfs-qb

OBJCOPY ?= objcopy
comma = ,
# Version script: the public names.
C_MAP = capi/libpmxcfs.map
C_NAMES = $(shell sed -n 's/^\t\(pmxcfs_[a-z_]*\);$$/\1/p' $(C_MAP))

build-lib: setup-build
	$(CARGO) build --quiet --locked --profile $(PROFILE) $(LIBRARIES)
	@$(MAKE) --no-print-directory --silent $(LIB_OUT)/libpmxcfs.a $(LIB_OUT)/libpmxcfs.so

# An archive has no list of what it exports, and would bring along all names of the Rust it is made of. So its
# parts become one, in which only the names of the interface are left to others. Several makes can run at the same time:
# each has a temporary directory of its own, and the names in the archive stay the same.
$(LIB_OUT)/libpmxcfs.a: $(LIB_OUT)/libpmxcfs_c.a $(C_MAP)
	@set -e; parts=$$(mktemp -d $@.XXXXXX); trap 'rm -rf "$$parts"' EXIT; \
		$(CC) -r -nostdlib -o $$parts/libpmxcfs.o $(addprefix -Wl$(comma)-u$(comma),$(C_NAMES)) $<; \
		$(OBJCOPY) $(addprefix --keep-global-symbol=,$(C_NAMES)) --remove-section=.llvmbc \
			--remove-section=.llvmcmd $$parts/libpmxcfs.o; \
		$(AR) rcD $$parts/libpmxcfs.a $$parts/libpmxcfs.o; \
		mv $$parts/libpmxcfs.a $@

# Kept in memory once it is loaded: its SIGBUS handler and its thread-local texts must not vanish below a program that
# closes it.
$(LIB_OUT)/libpmxcfs.so: $(LIB_OUT)/libpmxcfs.a $(C_MAP)
	@set -e; new=$$(mktemp $@.XXXXXX); trap 'rm -f "$$new"' EXIT; \
		$(CC) -shared -o $$new $(LDFLAGS) -Wl,-soname,libpmxcfs.so.$(LIB_ABI) -Wl,--version-script=$(C_MAP) \
			-Wl,-z,nodelete,-z,defs,-z,relro,-z,now,--gc-sections -Wl,--whole-archive $< -Wl,--no-whole-archive; \
		chmod 0755 $$new; mv $$new $@

# Where `make install-PART` puts files, with DESTDIR in front; stage-PART writes them below STAGE, for packages.
LISTS ?= $(PREFIX)/share/pmxcfs-rs/installed
PLACE = @DESTDIR='$(DESTDIR)' LISTS='$(LISTS)' FORCE='$(FORCE)' tools/install.sh
STAGE ?= $(CARGO_TARGET_DIR)/stage
FORCE ?= no
INSTALL_PARTS = lib programs perl perl-instead

install-lib: build-lib
	$(PLACE) put lib $(MAKE) --no-print-directory --silent stage-lib

stage-lib:
	install -d $(STAGE)$(LIBDIR)/pkgconfig $(STAGE)$(QB_LIBDIR) $(STAGE)$(INCLUDEDIR)/pmxcfs/qb
	install -m 0644 $(LIB_OUT)/libpmxcfs.so $(STAGE)$(LIBDIR)/libpmxcfs.so.$(LIB_ABI).$(LIB_VERSION)
	ln -sf libpmxcfs.so.$(LIB_ABI).$(LIB_VERSION) $(STAGE)$(LIBDIR)/libpmxcfs.so.$(LIB_ABI)
	ln -sf libpmxcfs.so.$(LIB_ABI) $(STAGE)$(LIBDIR)/libpmxcfs.so
	install -m 0644 $(LIB_OUT)/libpmxcfs.a $(STAGE)$(LIBDIR)/libpmxcfs.a
	install -m 0644 include/pmxcfs.h include/cfs-ipc-ops.h $(STAGE)$(INCLUDEDIR)
	sed -e 's,@prefix@,$(PREFIX),' -e 's,@libdir@,$(LIBDIR),' -e 's,@includedir@,$(INCLUDEDIR),' \
		-e 's,@version@,$(LIB_VERSION),' capi/pmxcfs.pc.in > $(STAGE)$(LIBDIR)/pkgconfig/pmxcfs.pc
	chmod 0644 $(STAGE)$(LIBDIR)/pkgconfig/pmxcfs.pc
	install -m 0644 $(LIB_OUT)/libpmxcfs_qb.so $(STAGE)$(QB_LIBDIR)/libpmxcfs-qb.so.$(LIB_VERSION)
	ln -sf libpmxcfs-qb.so.$(LIB_VERSION) $(STAGE)$(QB_LIBDIR)/libqb.so.100
	ln -sf libqb.so.100 $(STAGE)$(QB_LIBDIR)/libqb.so
	install -m 0644 include/compat/qb/*.h $(STAGE)$(INCLUDEDIR)/pmxcfs/qb
	install -d $(STAGE)$(MANDIR)/man3
	install -m 0644 docs/man/*.3 $(STAGE)$(MANDIR)/man3

## Everything for a node or a build machine but Perl: make install [DESTDIR=] [PREFIX=/usr/local]. On a node with
## the stock package install ours instead (make deb): both have files of the same names, and files of packages are
## never replaced.
PROGRAMS = pmxcfs create_pmxcfs_db pmxcfs-db pmxcfs-ctl
# Those that have completions in completions/.
COMPLETED = pmxcfs pmxcfs-db pmxcfs-ctl
UNITS = pve-cluster.service pve-cluster.service.d/10-pmxcfs-rs.conf pmxcfs-metrics.service pmxcfs-metrics.socket \
	pmxcfs-backup.service pmxcfs-backup.timer

BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
UNITDIR ?= $(PREFIX)/lib/systemd/system
SYSCTLDIR ?= $(PREFIX)/lib/sysctl.d
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR ?= $(PREFIX)/share/zsh/vendor-completions
FISHDIR ?= $(PREFIX)/share/fish/vendor_completions.d

build-programs: setup-build
	$(CARGO) build --quiet --locked --profile $(PROFILE) --bins

install: install-lib install-programs

install-programs: build-programs
	$(PLACE) put programs $(MAKE) --no-print-directory --silent stage-programs

stage-programs:
	install -d $(addprefix $(STAGE),$(BINDIR) $(MANDIR)/man8 $(UNITDIR)/pve-cluster.service.d \
		$(SYSCTLDIR) $(BASHDIR) $(ZSHDIR) $(FISHDIR))
	install -m 0755 $(addprefix $(LIB_OUT)/,$(PROGRAMS)) $(STAGE)$(BINDIR)
	install -m 0644 docs/man/*.8 $(STAGE)$(MANDIR)/man8
	for unit in $(UNITS); do \
		sed 's,@bindir@,$(BINDIR),' systemd/$$unit.in > $(STAGE)$(UNITDIR)/$$unit && \
		chmod 0644 $(STAGE)$(UNITDIR)/$$unit || exit 1; done
	install -m 0644 sysctl/10-pmxcfs-rs.conf $(STAGE)$(SYSCTLDIR)
	for program in $(COMPLETED); do \
		install -m 0644 completions/$$program.bash $(STAGE)$(BASHDIR)/$$program && \
		install -m 0644 completions/_$$program $(STAGE)$(ZSHDIR)/_$$program && \
		install -m 0644 completions/$$program.fish $(STAGE)$(FISHDIR)/$$program.fish || exit 1; done

## Each install verb has its counterpart, to be given the same DESTDIR and PREFIX. They remove the files that the install
## verbs recorded, and no files of packages; the database and the tree stay.
uninstall: uninstall-lib uninstall-programs

$(addprefix uninstall-,$(INSTALL_PARTS)): uninstall-%:
	$(PLACE) take $*

## Debian packages, in target/deb; without network once the crates are there.
DEB_OUT ?= $(CARGO_TARGET_DIR)/deb
deb: setup-build
	@command -v dpkg-buildpackage >/dev/null && dpkg-checkbuilddeps || { \
		echo "make deb: tools are missing: apt-get install build-essential debhelper libperl-dev" >&2; exit 1; }
	$(CARGO) fetch --quiet --locked
	rm -rf $(DEB_OUT)
	mkdir -p $(DEB_OUT)
	CARGO_HOME="$${CARGO_HOME:-$$HOME/.cargo}" RUSTUP_HOME="$${RUSTUP_HOME:-$$HOME/.rustup}" DEB_OUT=$(DEB_OUT) \
		dpkg-buildpackage -b -us -uc --buildinfo-option=-u$(DEB_OUT) --changes-option=-u$(DEB_OUT) \
		--buildinfo-file=$(DEB_OUT)/pmxcfs-rs.buildinfo --changes-file=$(DEB_OUT)/pmxcfs-rs.changes
	@if command -v lintian >/dev/null; then lintian --fail-on error,warning $(DEB_OUT)/*.deb; \
	else echo "no lintian: packages not checked"; fi

## Makes the committed shell completions anew from the programs' options.
completions: setup-build
	PMXCFS_WRITE_COMPLETIONS=1 $(CARGO) test --quiet --locked --test completions

## The Perl module Pmxcfs::IPCC; install-perl-instead also installs a PVE::IPCC that shadows the stock one. Perl searches
## the directory for local modules, sitearch, before those of packages.
PERL ?= perl
PERL_ARCHDIR ?= $(shell $(PERL) -MConfig -e 'print $$Config{sitearch}')
PERL_CFLAGS = $(shell $(PERL) -MConfig -e 'print "$$Config{ccflags} $$Config{cccdlflags}"')
PERL_CORE = $(shell $(PERL) -MConfig -e 'print "$$Config{archlibexp}/CORE"')
XSUBPP = $(shell $(PERL) -MConfig -e 'print "$$Config{privlibexp}/ExtUtils/xsubpp"')
PERL_VERSION_OF_US = $(shell sed -n "s/^our .VERSION = '\(.*\)';/\1/p" perl/Pmxcfs/IPCC.pm)
PERL_OUT = $(LIB_OUT)/perl

build-perl: build-lib
	@$(MAKE) --no-print-directory --silent $(PERL_OUT)/IPCC.so

$(PERL_OUT)/IPCC.so: perl/IPCC.xs perl/Pmxcfs/IPCC.pm include/pmxcfs.h $(LIB_OUT)/libpmxcfs.so
	@mkdir -p $(PERL_OUT)
	@set -e; new=$$(mktemp -d $(PERL_OUT)/new.XXXXXX); trap 'rm -rf "$$new"' EXIT; \
		$(PERL) $(XSUBPP) perl/IPCC.xs > $$new/IPCC.c; \
		$(CC) -shared -o $$new/IPCC.so -O2 -g $(LDFLAGS) $(PERL_CFLAGS) -Wall -Werror -isystem $(PERL_CORE) -Iinclude \
			-DVERSION='"$(PERL_VERSION_OF_US)"' -DXS_VERSION='"$(PERL_VERSION_OF_US)"' \
			-ffile-prefix-map=$$new=. $$new/IPCC.c $(LIB_OUT)/libpmxcfs.so; \
		mv $$new/IPCC.so $@

install-perl: build-perl
	$(PLACE) put perl $(MAKE) --no-print-directory --silent stage-perl

stage-perl:
	install -d $(STAGE)$(PERL_ARCHDIR)/Pmxcfs $(STAGE)$(PERL_ARCHDIR)/auto/Pmxcfs/IPCC
	install -m 0644 perl/Pmxcfs/IPCC.pm $(STAGE)$(PERL_ARCHDIR)/Pmxcfs
	install -m 0644 $(PERL_OUT)/IPCC.so $(STAGE)$(PERL_ARCHDIR)/auto/Pmxcfs/IPCC

install-perl-instead: install-perl
	$(PLACE) put perl-instead $(MAKE) --no-print-directory --silent stage-perl-instead

stage-perl-instead:
	install -d $(STAGE)$(PERL_ARCHDIR)/PVE
	install -m 0644 perl/PVE/IPCC.pm $(STAGE)$(PERL_ARCHDIR)/PVE

## Makes the committed headers anew from the source.
headers: setup-build
	PMXCFS_WRITE_HEADERS=1 $(CARGO) test --quiet --locked -p libpmxcfs --test headers

## So many fresh schedules of simulated clusters; a failing seed is printed: make sim SEEDS=100000
SEEDS ?= 10000
sim: setup
	SIM_SEEDS=$(SEEDS) $(CARGO) test --locked --release --test sim fresh_schedules -- --nocapture

## Long tests: ROUNDS rounds of each race against the tools of root and of random damage to databases, and a tenth of
## that number of crossing operations and appends in clusters, and of scripts that end in power failures:
## make soak ROUNDS=1000
ROUNDS ?= 200
soak: setup
	SOAK_ROUNDS=$(ROUNDS) $(CARGO) test --locked --test db_tool races -- --nocapture
	DBTOOL_ROUNDS=$(ROUNDS) $(CARGO) test --locked --test db_tool -- --nocapture random edits
	LONG_ROUNDS=$$(($(ROUNDS) / 10)) $(CARGO) test --locked --test cluster -- --nocapture \
		appends_of_all_nodes crossing_operations
	POWER_RUNS=$$(($(ROUNDS) / 10)) $(CARGO) test --locked --test power survive -- --nocapture

## Each load once, so that the benchmark itself stays whole; unoptimized, as everything else is built for tests.
smoke: setup
	@$(MAKE) --no-print-directory build-lib PROFILE=dev
	$(CARGO) bench --locked --profile dev --bench pmxcfs -- --quick

## A table of medians; with STOCK=/path/to/a/stock/pmxcfs the same loads on it, and the ratio.
bench: setup build build-lib
	$(CARGO) bench --locked --bench pmxcfs

## Coverage-guided, with a nightly toolchain and cargo-fuzz: make fuzz TARGET=ring SECONDS=600
TARGET ?= all
SECONDS ?= 60
fuzz: setup
	fuzz/run.sh $(TARGET) $(SECONDS)

clean:
	$(CARGO) clean
