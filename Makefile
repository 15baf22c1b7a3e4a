# Thin: meson and ninja build, scripts/ and tools/ do the rest. `make demo` and `make check` are
# complete on a fresh Debian 12 as root.
BUILD ?= build

all: deps-build
	@test -f $(BUILD)/build.ninja || meson setup $(BUILD)
	@ninja -C $(BUILD)

deps-build:
	@scripts/deps.sh build

demo:
	@scripts/deps.sh build run demo
	@scripts/demo

check:
	@scripts/deps.sh
	@python3 scripts/check.py

# A part of it: make check-netlab. `python3 scripts/check.py --list` names them.
check-%:
	@scripts/deps.sh
	@python3 scripts/check.py $*

bench: all
	@scripts/deps.sh run bench
	@python3 bench/bench.py

# Each target for FUZZ_SECONDS, starting from its corpus.
fuzz:
	@scripts/deps.sh build
	@scripts/fuzz.sh

# Which lines of src/ the suite runs; needs no other build.
coverage:
	@scripts/deps.sh
	@python3 scripts/coverage.py

# The long forms of tests/flood and of tests/product/test_ways.py; the last line has the figures.
floods: all
	@python3 tests/flood/floods.py

# Every fault point of every operation, every role killed there; then what runs out.
faults:
	@scripts/deps.sh
	@python3 scripts/check.py clang
	@WEIR_NO_BUILD=1 WEIR_BUILD=build-clang tools/with-internet -- python3 tests/fault/matrix.py
	@WEIR_NO_BUILD=1 WEIR_BUILD=build-clang tools/with-internet -- /usr/bin/python3 -m pytest -q tests/fault/test_limits.py

# What clients and command line see of containers, seen of virtual machines: all of tests/client and
# tests/product but what is about images and installing. Long where there is no KVM; its last line counts.
vm: all
	@scripts/deps.sh
	@tests/client/install
	@tools/with-internet -- tools/with-daemon --set runtime.default=vm --set vm.accel=auto \
		--set vm.warm_mib=4096 -- \
		tests/machines $(BUILD)/check

soak: all
	@python3 bench/soak.py

# 4,000 policied slots, then 1,000 sandboxes at once, with what each costs.
scale: all
	@$(BUILD)/tests/scale/scale-slots
	@scripts/deps.sh run demo
	@tools/with-internet -- python3 tests/scale/sandboxes.py

install: all
	@scripts/deps.sh run
	@meson install -C $(BUILD) --quiet

# A small kernel for virtual machines, from the distribution's source: they boot faster by it. Four
# minutes of two processors, and 2 GB until the next line.
guest-kernel: all
	@scripts/deps.sh kernel
	@scripts/guest-kernel $(BUILD)/guest-kernel $(abspath $(BUILD))/src/cmd/guest-vmlinux
	@rm -rf $(BUILD)/guest-kernel

clean:
	rm -rf build build-clang build-asan build-fuzz build-coverage

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

.PHONY: all deps-build demo check bench fuzz floods faults scale coverage soak vm guest-kernel install clean \
	format
