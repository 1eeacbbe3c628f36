#!/usr/bin/env bash
# Installs what the tests need, builds, and runs everything; see --help.
set -euo pipefail

usage() {
    cat <<'TEXT'
tests/run.sh - build certmill and run its tests

Usage: tests/run.sh [--preset release|asan|tsan|all] [--fuzz-seconds N] [--no-install] [-- CTEST-ARGS]

  --preset P        which build to test (default: release, then unit tests and
                    fuzzers under ASan+UBSan, then unit tests under TSan).
                    asan, tsan: the whole suite in that build. all: everything in all three.
  --fuzz-seconds N  time for each fuzzer (default 5)
  --no-install      do not call apt
  CTEST-ARGS        e.g. -R interop

Needs root or sudo for the packages on a fresh machine. The last lines are ctest's summary.
TEXT
}

cd "$(dirname "$0")/.."
preset=default
install=yes
export CERTMILL_FUZZ_SECONDS=5
ctest_args=()
while [ $# -gt 0 ]; do
    case $1 in
    --preset) preset=${2:?--preset needs a name}; shift 2 ;;
    --fuzz-seconds) CERTMILL_FUZZ_SECONDS=${2:?--fuzz-seconds needs a number}; shift 2 ;;
    --no-install) install=no; shift ;;
    --help|-h) usage; exit 0 ;;
    --) shift; ctest_args=("$@"); break ;;
    *) echo "tests/run.sh: unknown option $1; see --help" >&2; exit 2 ;;
    esac
done

started=$SECONDS
step() { printf '\n== [%4ds] %s\n' $((SECONDS - started)) "$*"; }

if [ "$install" = yes ]; then
    step "packages"
    ./deploy/deps/packages.sh all --install
fi
step "wolfSSL"
prefix=$(./deploy/deps/wolfssl.sh --print-prefix)

build() { # build PRESET
    step "build $1"
    local options=()
    # quickstart.sh may have switched the tests off in this build
    [ "$1" = fuzz ] || options=(-DCERTMILL_TESTS=ON)
    cmake --preset "$1" -DCERTMILL_WOLFSSL_PREFIX="$prefix" "${options[@]}" >"/tmp/certmill-cmake-$$.log" 2>&1 ||
        { cat "/tmp/certmill-cmake-$$.log"; exit 1; }
    rm -f "/tmp/certmill-cmake-$$.log"
    local targets=() source
    if [ "$1" = fuzz ]; then
        for source in tests/fuzz/fuzz_*.c; do
            targets+=(--target "$(basename "$source" .c)")
        done
    fi
    cmake --build --preset "$1" "${targets[@]}" -- -k 0
}

# Collects the builds' test lists into one run, so that there is one summary at the end.
suites=()
add_suite() { # add_suite PRESET [LABEL-REGEX]
    build "$1"
    suites+=("$1:${2:-}")
}

case $preset in
default)
    add_suite release
    add_suite asan unit
    add_suite fuzz fuzz
    add_suite tsan unit
    ;;
release) add_suite release ;;
asan) add_suite asan; add_suite fuzz fuzz ;;
tsan) add_suite tsan ;;
all) add_suite release; add_suite asan; add_suite fuzz fuzz; add_suite tsan ;;
*) echo "tests/run.sh: unknown preset $preset; see --help" >&2; exit 2 ;;
esac

combined=build/all-tests
rm -rf "$combined" && mkdir -p "$combined"
for suite in "${suites[@]}"; do
    name=${suite%%:*} label=${suite#*:}
    (cd "build/$name" && ctest --show-only=json-v1 ${label:+-L "$label"}) |
        ./tests/lib/merge_ctest.py "$name" >>"$combined/CTestTestfile.cmake"
done
step "tests"
cd "$combined"
exec ctest --output-on-failure --no-tests=error "${ctest_args[@]}"
