# Every target installs what it needs first, by tools/ensure_packages.sh: packages.txt and the job user, and for the bars
# nginx, which they compare the gateway with (unpacked under build/nginx, not installed), and debootstrap for a clean Debian.
.DEFAULT_GOAL := help
.PHONY: help ensure build run tour test bench bars mutants simulate torture lint package

SHELL := /bin/bash
.SHELLFLAGS := -eo pipefail -c

PYTHON := /usr/bin/python3
# What passed needs no line each, so that a log shows what failed.
export GTEST_BRIEF := 1
SEEDS  ?= 20
BASE   ?= HEAD~1

# These test binaries guard what is acknowledged, so they run under the sanitizers too.
DURABLE := ^(base|core|store)[a-z_]*_test

# $(call build_tests,PRESET,REGEX): configures a preset and builds the test binaries whose name matches.
build_tests = cmake --preset $(1) >/dev/null && \
	ninja -C build/$(1) $$(ninja -C build/$(1) -t targets all | grep -oE '$(2)' | sort -u)

help:      ## this list
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

ensure:    ## install missing packages, make the job user
	@tools/ensure_packages.sh

build: ensure    ## leave build/bin/stargate
	cmake --preset release
	ninja -C build

run: build       ## start Stargate on this machine, show the tour, stay up
	$(PYTHON) tools/tour.py --stay

tour: build      ## the same, ends by itself; FAST=1 for the short one
	$(PYTHON) tools/tour.py $(if $(FAST),--fast)

# A commit passes or fails, whoever asks and when; `make torture` draws fresh histories.
test: export RC_PARAMS := seed=1
test: build      ## all tests, the durable parts under sanitizers, a short tour
	ctest --test-dir build --output-on-failure -j2
	$(call build_tests,asan,$(DURABLE))
	ctest --test-dir build/asan --output-on-failure -j2 -R '$(DURABLE)$$'
	$(MAKE) --no-print-directory tour FAST=1

bars: build      ## the promised figures, measured here and now
	@tools/ensure_packages.sh nginx debootstrap iproute2
	$(PYTHON) tools/bars.py

bench: build     ## the same and the long ones, into docs/bench
	@tools/ensure_packages.sh nginx debootstrap iproute2
	ninja -C build bench_api
	$(PYTHON) tools/bars.py --long

package: build   ## a Debian package, build/stargate_VERSION_ARCH.deb
	rm -f build/stargate_*.deb
	cd build && cpack >cpack.log || (cat cpack.log; exit 1)
	@ls build/stargate_*.deb

mutants: build   ## plant each bug of tests/mutants, show what finds it; FULL=1: and 60 edits that nobody chose
	$(PYTHON) tools/mutants.py
	$(if $(FULL),$(PYTHON) tools/mutate.py)

simulate: build  ## the chaos scenario over SEEDS=20 fresh seeds
	@for seed in $$(shuf -i 1-1000000000 -n $(SEEDS)); do \
	  echo "seed $$seed"; build/bin/stargate twin run tests/scenario/chaos.yaml --seed $$seed || exit 1; \
	done

torture: ensure  ## thread sanitizer and long loops: an hour, not a minute
	$(call build_tests,tsan,^[a-z_]+_test)
	ctest --test-dir build/tsan --output-on-failure -R '_test$$'
	$(call build_tests,asan,^[a-z_]+_test)
	ctest --test-dir build/asan --output-on-failure -R '_test$$' --repeat until-fail:20
	$(MAKE) --no-print-directory simulate SEEDS=500
	$(PYTHON) tools/same_digest.py
	cmake -G Ninja -B build/fuzz -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG="-O1 -g1" \
		-DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DSTARGATE_FUZZ=ON >/dev/null
	ninja -C build/fuzz fuzz_gateway fuzz_head fuzz_jobfile fuzz_request fuzz_scenario
	for target in gateway head jobfile request scenario; do mkdir -p build/fuzz/$$target && \
		build/fuzz/bin/fuzz_$$target -max_total_time=300 -timeout=10 -artifact_prefix=build/fuzz/ \
			build/fuzz/$$target tests/fuzz/corpus/$$target || exit 1; done

lint: build      ## layout, layers, clang-tidy on what changed since BASE=HEAD~1; FULL=1 for all
	git ls-files -z '*.hpp' '*.cpp' | xargs -0 clang-format --dry-run --Werror
	$(PYTHON) tools/check_layers.py
	$(PYTHON) tools/tidy.py $(if $(FULL),--all,--since $(BASE))
