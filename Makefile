# fvm: what people and CI type. Cargo does the building; this only puts its commands together.

CARGO ?= cargo
DESTDIR ?=
PREFIX ?= /usr
# Where cargo puts what it builds.
target = $(shell $(CARGO) metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')

# The profile of what runs on lab hosts, so that what tests and lab hosts share is built once.
tests = --profile lab --locked

.PHONY: help prepare demo shell build test lint deny unit lab fuzz cycles bench bench-dhcp deb install clean

help:
	@echo "make demo      the main job, on a lab host"
	@echo "make shell     a root shell on a fresh lab host with this build of fvm"
	@echo "make test      all tests, as CI runs them"
	@echo "make lint      formatting, clippy"
	@echo "make fuzz      each fuzz target for 20 seconds (SECONDS=20)"
	@echo "make bench     import and export, as ratios to what the machine can do"
	@echo "make bench-dhcp  leases a second, beside other DHCP servers"
	@echo "make deb       target/debian/fvm_VERSION_ARCH.deb"
	@echo "make install   this build on this host (DESTDIR=, PREFIX=/usr)"

# Packages that building and testing need: installed when root, named otherwise.
prepare:
	@packaging/prepare

demo: prepare
	$(CARGO) run --profile lab --locked -p fvm-lab -- demo

shell: prepare
	$(CARGO) run --profile lab --locked -p fvm-lab -- shell

build:
	$(CARGO) build --release --locked -p fvm -p fvm-vmm -p fvm-netd

lint: prepare
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(tests) --workspace --all-targets -- -D warnings

# Licences, bans and sources of dependencies, and dependencies that nothing uses: not part of every CI run, since the
# two tools take minutes to build (cargo install --locked cargo-deny cargo-machete).
deny:
	$(CARGO) deny --locked check bans licenses sources
	$(CARGO) machete

# Everything that needs no lab host: pure functions, and network namespaces when root.
unit: prepare
	$(CARGO) test $(tests) --workspace --exclude fvm-lab
	$(CARGO) test $(tests) -p fvm-lab --lib --bins

# On lab hosts: real device-mapper, real KVM, real DHCP clients.
lab: prepare
	$(CARGO) test $(tests) -p fvm-lab --tests -- --test-threads=2

# Everything that reads bytes from outside, by coverage-guided fuzzing; longer with `make fuzz SECONDS=3600`. CI has the
# same chances each time, so that a change is refused for what it changed.
SECONDS = 20
SEED = 0
fuzz: prepare
	fuzz/run $(SECONDS) $(SEED)

# Tests of QEMU's arguments use the QEMU of the lab, so that is made first.
test: lint
	$(CARGO) build $(tests) --workspace --bins
	$(target)/lab/fvm-lab prepare
	$(CARGO) test $(tests) --workspace -- --test-threads=2
	fuzz/run 20 1

# One VM number made, started and deleted fifty times on a lab host (CI: twelve), and its disk ten thousand times (CI: a
# thousand).
cycles: prepare
	FVM_CYCLES=50 $(CARGO) test $(tests) -p fvm-lab --test e2e -- cycles
	FVM_DISK_CYCLES=10000 $(CARGO) test $(tests) -p fvm-lab --test leaks

# Import and export against the limits of the same machine, and their memory. On a host of your own: `sudo tests/assets/bench`.
bench: prepare
	$(CARGO) run $(tests) -p fvm-lab -- run tests/assets/bench

# DHCP beside those of dnsmasq-base, kea-dhcp4-server and isc-dhcp-server that are installed, in network namespaces of this
# machine; as root. Options: DHCP='--taps 50 --rounds 9'.
bench-dhcp: prepare
	$(CARGO) bench $(tests) -p fvm-netd --bench dhcp -- $(DHCP)

deb: prepare build
	mkdir -p target/debian
	packaging/deb/build.sh $(target)/release target/debian/fvm.deb
	mv target/debian/fvm.deb target/debian/$$(dpkg-deb -W --showformat='$${Package}_$${Version}_$${Architecture}.deb' target/debian/fvm.deb)
	@ls target/debian/*.deb

# Builds only when nothing is built yet, so that `make && sudo make install` does not run cargo as root.
install:
	@for program in fvm fvmd fvm-netd; do [ -x $(target)/release/$$program ] || exec $(MAKE) build; done
	packaging/install.sh $(target)/release "$(DESTDIR)" "$(PREFIX)"

clean:
	$(CARGO) run --profile lab --locked -p fvm-lab -- clean
	$(CARGO) clean
