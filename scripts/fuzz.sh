#!/bin/sh
# make fuzz: each libFuzzer target for FUZZ_SECONDS (60), from its corpus; FUZZ_ONLY picks by name.
#
# New inputs stay in build-fuzz/corpus. What fails is kept in build-fuzz/found: put it into the
# target's corpus folder under a name that tells what it was, and every test run replays it.
set -eu
cd "$(dirname "$0")/.."

[ -f build-fuzz/build.ninja ] || CC=clang meson setup build-fuzz -Dfuzz=true -Db_lundef=false \
	-Db_sanitize=address,undefined -Dvariants=false
ninja -C build-fuzz
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
mkdir -p build-fuzz/found
status=0
for target in build-fuzz/tests/fuzz/*/fuzz_*; do
	[ -f "$target" ] && [ -x "$target" ] || continue
	name=$(basename "$target")
	case $name in *"${FUZZ_ONLY:-}"*) ;; *) continue ;; esac
	room=$(basename "$(dirname "$target")")
	new=build-fuzz/corpus/$name
	mkdir -p "$new"
	seeds=
	for dir in "tests/fuzz/$room/${name#fuzz_"$room"_}" "tests/fuzz/$room/$name" \
		"tests/fuzz/$room/corpus/${name#fuzz_"$room"_}" "tests/fuzz/$room/corpus"; do
		[ -d "$dir" ] && seeds="$seeds $dir"
	done
	echo "fuzz: $name for ${FUZZ_SECONDS:-60} s, seeds:${seeds:- none}"
	# shellcheck disable=SC2086
	"$target" -max_total_time="${FUZZ_SECONDS:-60}" -timeout=10 -rss_limit_mb=2048 -print_final_stats=0 \
		-artifact_prefix="build-fuzz/found/$name-" "$new" $seeds >"build-fuzz/$name.log" 2>&1 || {
		tail -30 "build-fuzz/$name.log"
		status=1
	}
	grep -E '#[0-9]+.*(DONE|pulse)' "build-fuzz/$name.log" | tail -1
done
exit $status
