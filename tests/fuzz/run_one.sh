#!/bin/sh
# Runs one fuzzer for CERTMILL_FUZZ_SECONDS (default 10) on a copy of its corpus; fails when it finds something.
# Usage: run_one.sh BINARY CORPUS
set -eu
if [ $# -ne 2 ]; then
    echo "usage: $0 BINARY CORPUS" >&2
    exit 2
fi
binary=$1
corpus=$2
seconds=${CERTMILL_FUZZ_SECONDS:-10}

work=$(mktemp -d "${TMPDIR:-/tmp}/certmill-fuzz.XXXXXX")
keep=
cleanup() {
    if [ -z "$keep" ]; then
        rm -rf "$work"
    fi
}
trap cleanup EXIT
mkdir "$work/corpus" "$work/artifacts"
if [ -d "$corpus" ]; then
    cp -R "$corpus/." "$work/corpus/"
fi

status=0
"$binary" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 \
    -artifact_prefix="$work/artifacts/" "$work/corpus" >"$work/log" 2>&1 || status=$?
if [ "$status" -ne 0 ]; then
    cat "$work/log"
    keep=yes
    echo "$(basename "$binary"): failed with status $status; what it found is in $work/artifacts:"
    ls -l "$work/artifacts"
    exit "$status"
fi
echo "$(basename "$binary"): $(ls "$corpus" 2>/dev/null | wc -l) seeds, ${seconds} s"
grep -E '^(stat::|Done )|cov: .*(DONE)' "$work/log" || tail -n 3 "$work/log"
