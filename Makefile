# make demo      a cluster of four machines, a real computation with a checked result, and everything removed again
# make test      what CI runs; its last lines are the counts
# make build     the binary for daily use, PROFILE=release for the one to install
# make install   PREFIX=/usr/local; DESTDIR for packagers. Below /usr also systemd's units and /etc/hpc/hpc.toml
# make bench     the benchmarks; benches/lab.sh measures a lab of 40 machines
# make fuzz      every fuzz target for SECONDS=60 each; needs a nightly toolchain and cargo-fuzz
# make vm-test   systemd's units in a virtual machine: needs root, qemu, debootstrap and a mirror of Debian
# make clean     what building made
SHELL := /bin/bash
CARGO ?= cargo
PROFILE ?= fast
PREFIX ?= /usr/local
SECONDS ?= 60
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: build demo test bench fuzz install install-files vm-test clean setup setup-test old-build fmt clippy doctest nextest
.NOTPARALLEL:

build: setup
	$(CARGO) build --locked --profile $(PROFILE)

demo: build
	HPC="$(abspath $(TARGET))/$(PROFILE)/hpc" packaging/demo.sh

# Fastest first, and last the one whose counts are worth reading.
test: setup-test old-build fmt clippy doctest nextest

setup:
	@packaging/setup.sh build

setup-test:
	@packaging/setup.sh test

# What the tests that mix two builds need.
old-build: setup-test
	@packaging/old-build.sh

fmt:
	$(CARGO) fmt --check

clippy:
	$(CARGO) clippy --locked --all-targets -- -D warnings

doctest:
	$(CARGO) test --locked --doc --quiet --profile $(PROFILE)

nextest:
	packaging/run-tests.sh $(CARGO) nextest run --locked --cargo-profile $(PROFILE) --profile ci

bench: setup
	$(CARGO) bench --locked --benches

# A target that finds something stops here, with the input kept in tests/fuzz/artifacts. A message that makes us
# allocate 256 MiB at once, or takes 10 s, is such a finding too. New inputs go to FUZZ_NEW, not to the kept corpus.
FUZZ := $(CARGO) +nightly fuzz
FUZZ_NEW := tests/fuzz/target/corpus
fuzz: setup
	@set -e; for target in $$($(FUZZ) list --fuzz-dir tests/fuzz); do \
	    echo "fuzz: $$target, $(SECONDS) s"; \
	    mkdir -p $(FUZZ_NEW)/$$target; \
	    $(FUZZ) run --fuzz-dir tests/fuzz $$target $(FUZZ_NEW)/$$target tests/fuzz/corpus/$$target -- \
	        -max_total_time=$(SECONDS) -timeout=10 -malloc_limit_mb=256 -print_final_stats=1; \
	done

install: setup
	$(CARGO) build --locked --release
	@$(MAKE) --no-print-directory install-files BINARY=$(TARGET)/release/hpc

# Puts a binary that was built already into its place. Units and config belong to a system's installation alone: systemd
# looks for units below these two, and a user's own cluster has no use for the system's config. A config that exists is
# the administrator's and stays.
BINARY ?= $(TARGET)/$(PROFILE)/hpc
UNIT_DIR := $(DESTDIR)$(PREFIX)/lib/systemd/system
install-files:
	install -D -m 755 "$(BINARY)" "$(DESTDIR)$(PREFIX)/bin/hpc"
ifneq ($(filter /usr /usr/local,$(PREFIX)),)
	install -d "$(UNIT_DIR)"
	@set -e; for unit in packaging/systemd/*.service; do \
	    sed 's|^ExecStart=/usr/bin/|ExecStart=$(PREFIX)/bin/|' "$$unit" >"$(UNIT_DIR)/$${unit##*/}"; \
	    chmod 644 "$(UNIT_DIR)/$${unit##*/}"; \
	    echo "installed $(UNIT_DIR)/$${unit##*/}"; \
	done
	@if [ -e "$(DESTDIR)/etc/hpc/hpc.toml" ]; then \
	    echo "kept $(DESTDIR)/etc/hpc/hpc.toml"; \
	else \
	    install -D -m 644 packaging/hpc.toml "$(DESTDIR)/etc/hpc/hpc.toml"; \
	    echo "installed $(DESTDIR)/etc/hpc/hpc.toml"; \
	fi
endif

vm-test: build
	packaging/vm-test.sh "$(TARGET)/$(PROFILE)/hpc"

clean:
	$(CARGO) clean
