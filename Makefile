# make demo      a cluster of one, a real computation with a checked result, and everything removed again
# make test      what CI runs; its last lines are the counts
# make build     the binary for daily use, PROFILE=release for the one to install
# make install   PREFIX=/usr/local; DESTDIR for packagers
# make bench     the benchmarks; benches/lab.sh measures a lab of 40 machines
# make fuzz      every fuzz target for SECONDS=60 each; needs a nightly toolchain and cargo-fuzz
# make clean     what building made
SHELL := /bin/bash
CARGO ?= cargo
PROFILE ?= fast
PREFIX ?= /usr/local
SECONDS ?= 60
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: build demo test bench fuzz install clean setup setup-test old-build fmt clippy doctest nextest
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
	$(CARGO) nextest run --locked --cargo-profile $(PROFILE) --profile ci

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
	install -D -m 755 $(TARGET)/release/hpc "$(DESTDIR)$(PREFIX)/bin/hpc"

clean:
	$(CARGO) clean
