#!/usr/bin/env bash
# packages.sh: the Debian packages that certmill needs, and their installation.
#
# Promise: --install leaves a system alone on which nothing is missing, and says what it adds
#          on others. --list and --check change nothing.
#
# Run with --help for the options.

set -euo pipefail

readonly PROGRAM=${0##*/}

# ---------------------------------------------------------------------------------------------
# The lists: one package a line, with what it is for; "a|b" is the first of them that is
# installed or that the archive has.

readonly BUILD_PACKAGES='
gcc
cmake
ninja-build
make
pkg-config|pkgconf      # finds the libraries below
libc6-dev
liburing-dev            # io_uring
liblmdb-dev             # the store
libcyaml-dev            # configuration
libyaml-dev             # its lines, for messages
libjansson-dev          # JSON
libp11-kit-dev          # pkcs11.h
libseccomp-dev          # the system call filter
libpq-dev               # the relay to PostgreSQL
libssl-dev              # load generator and tests: the second opinion
libcrypt-dev            # password hashes of stations
autoconf                # from here on: deploy/deps/wolfssl.sh
automake
libtool
dpkg-dev
patch
tar
gzip
bzip2
xz-utils
util-linux              # flock
ca-certificates
debian-archive-keyring
'

readonly RUN_PACKAGES='
softhsm2                # a token to start with
opensc                  # pkcs11-tool
p11-kit
openssl
curl
ca-certificates
'

# The sanitizers of gcc come with gcc; those of clang, and libFuzzer, with libclang-rt-dev.
readonly TEST_PACKAGES='
libcmocka-dev
clang
libclang-rt-dev|libclang-rt-14-dev
llvm                    # symbols in sanitizer reports
clang-format
clang-tidy
shellcheck
python3
python3-pytest
python3-openssl
python3-cryptography
python3-pyasn1
python3-pyasn1-modules
python3-requests
strongswan-pki          # an EST and SCEP client of other people
libstrongswan-standard-plugins
libstrongswan-extra-plugins     # its HTTP fetcher
lmdb-utils
faketime
jq
xxd
strace
procps
iproute2
'

# ---------------------------------------------------------------------------------------------

usage()
{
    cat <<USAGE
NAME
    $PROGRAM - the Debian packages that certmill needs

SYNOPSIS
    $PROGRAM build|run|test|all... [--check | --install | --list] [--quiet]

DESCRIPTION
    build   to compile certmill and wolfSSL
    run     to run it, and to try it with a software token
    test    for its tests; has the lists build and run in it
    all     all of these

OPTIONS
    --check     Name the packages that are missing; exit 1 if there are any. The default.
    --install   Install those with apt-get, through sudo if this is not root. Recommended
                packages are not installed, and package lists are fetched only if they have to be.
    --list      Print the lists' packages, one a line.
    --quiet     Print errors only.
    --help      Print this text.

EXIT STATUS
    0 all are there; 1 some are missing or could not be installed; 2 wrong usage.
USAGE
}

say()
{
    if [[ $quiet == no ]]; then
        printf 'packages: [%4d s] %s\n' "$SECONDS" "$*" >&2
    fi
}

die()
{
    printf 'packages: error: %s\n' "$1" >&2
    if [[ -n ${2-} ]]; then
        printf 'packages: %s\n' "$2" >&2
    fi
    exit 1
}

usage_error()
{
    printf 'packages: %s\nTry: %s --help\n' "$1" "$PROGRAM" >&2
    exit 2
}

# The entries of the wanted lists, each once.
entries()
{
    local list
    for list in "$@"; do
        case $list in
            build) printf '%s' "$BUILD_PACKAGES" ;;
            run) printf '%s' "$RUN_PACKAGES" ;;
            test) printf '%s' "$BUILD_PACKAGES" "$RUN_PACKAGES" "$TEST_PACKAGES" ;;
        esac
    done | sed 's/#.*//' | awk 'NF && !seen[$1]++ { print $1 }'
}

# Sets installed to a set of the installed packages, provided names included.
read_installed()
{
    local status name provides word
    while IFS=$'\t' read -r status name provides; do
        [[ $status == ii* ]] || continue
        installed[$name]=1
        for word in ${provides//,/ }; do
            installed[$word]=1
        done
    done < <(dpkg-query -W -f '${db:Status-Abbrev}\t${Package}\t${Provides}\n')
}

# Sets missing to the entries of which no alternative is installed.
find_missing()
{
    local entry name
    installed=()
    missing=()
    read_installed
    while read -r entry; do
        for name in ${entry//|/ }; do
            if [[ -n ${installed[$name]-} ]]; then
                continue 2
            fi
        done
        missing+=("$entry")
    done < <(entries "$@")
}

# Sets chosen to one package for each missing entry, and unknown to the entries of which the
# archive has none; fails if there are such.
choose()
{
    local entry name
    local -A available=()
    while read -r name; do
        available[$name]=1
    done < <(printf '%s\n' "${missing[@]}" | tr '|' '\n' | LC_ALL=C xargs apt-cache policy |
        awk '/^[^ ]/ { sub(/:.*/, ""); name = $0 }
             $1 == "Candidate:" && $2 != "(none)" { print name }')
    chosen=()
    unknown=()
    for entry in "${missing[@]}"; do
        for name in ${entry//|/ }; do
            if [[ -n ${available[$name]-} ]]; then
                chosen+=("$name")
                continue 2
            fi
        done
        unknown+=("$entry")
    done
    ((${#unknown[@]} == 0))
}

# apt_get ARGUMENTS: as root, without questions; its output is shown only if it fails.
apt_get()
{
    local -a as_root=()
    local output
    if ((EUID != 0)); then
        command -v sudo >/dev/null ||
            die "installing needs root, and there is no sudo" \
                "Run this as root: $PROGRAM ${lists[*]} --install"
        as_root=(sudo)
    fi
    output=$(mktemp)
    if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -q \
        -o DPkg::Lock::Timeout=300 "$@" >"$output" 2>&1 </dev/null; then
        tail -n 25 "$output" | sed 's/^/    /' >&2
        rm -f "$output"
        return 1
    fi
    rm -f "$output"
}

update_lists()
{
    say "fetching the package lists"
    apt_get update || die "apt-get update failed" "Check the network and apt's sources."
    updated=yes
}

install_missing()
{
    local updated=no
    local -a chosen unknown

    if ! choose; then
        update_lists
        choose || die "the archive does not have: ${unknown[*]}" \
            "certmill is built on Debian 12 or newer, with the archive's main component enabled."
    fi
    say "installing ${#chosen[@]}: ${chosen[*]}"
    if ! apt_get install --no-install-recommends "${chosen[@]}"; then
        # Old lists name files that the archive has replaced since.
        if [[ $updated == no ]]; then
            update_lists
            apt_get install --no-install-recommends "${chosen[@]}" && return
        fi
        die "apt-get install failed; the lines above are the end of its output"
    fi
}

main()
{
    local action=check argument
    while (($# > 0)); do
        argument=$1
        shift
        case $argument in
            build | run | test) lists+=("$argument") ;;
            all) lists+=(build run test) ;;
            --check | --install | --list) action=${argument#--} ;;
            --quiet | -q) quiet=yes ;;
            --help | -h)
                usage
                return
                ;;
            *) usage_error "unknown argument: $argument" ;;
        esac
    done
    ((${#lists[@]} > 0)) || usage_error "name at least one list: build, run, test or all"

    if [[ $action == list ]]; then
        entries "${lists[@]}"
        return
    fi
    command -v dpkg-query >/dev/null || die "this is not a Debian system" \
        "The lists ($PROGRAM all --list) show what to look for in your distribution."

    find_missing "${lists[@]}"
    if ((${#missing[@]} == 0)); then
        say "nothing is missing for: ${lists[*]}"
        return
    fi
    if [[ $action == check ]]; then
        say "missing for ${lists[*]}: ${missing[*]}"
        say "to install them: $PROGRAM ${lists[*]} --install"
        return 1
    fi
    install_missing
    find_missing "${lists[@]}"
    ((${#missing[@]} == 0)) || die "still missing after the installation: ${missing[*]}"
    say "done"
}

quiet=no
declare -a lists=() missing=()
declare -A installed=()

main "$@"
