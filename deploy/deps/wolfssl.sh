#!/usr/bin/env bash
# wolfssl.sh: wolfSSL as certmill needs it, built once and kept in the user's cache.
#
# Promise: what --print-prefix names is complete, was checked (wolfssl_check.c) and does not
#          change afterwards: a build is put in place by one rename, or not at all.
# Source:  the Debian archive that this machine's apt already uses, through apt and its
#          signature checks; no other address is known here.
# Why not the packaged library: it has no SP assembly, and verifying with it costs a multiple.
#
# Run with --help for the options.

set -euo pipefail

readonly PROGRAM=${0##*/}
HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
readonly HERE
readonly CHECK_SOURCE=$HERE/wolfssl_check.c
readonly PACKAGE=wolfssl

# Newest first. "@machine" stands for the release this machine runs.
readonly DEFAULT_SUITES="sid testing trixie @machine"
# In these the upstream release itself is current; elsewhere Debian's patches carry the fixes.
readonly ROLLING_SUITES="sid unstable testing experimental"

# ---------------------------------------------------------------------------------------------
# What is built. An option that this wolfSSL version does not know is left out and noted;
# wolfssl_check.c decides whether the result will do.

readonly -a CONFIGURE_OPTIONS=(
    # A static library that may also go into a PKCS#11 module.
    --enable-static --disable-shared --with-pic
    --disable-examples --disable-crypttests --disable-benchmark
    --enable-reproducible-build

    # Arithmetic: SP code for P-256, P-384, P-521 and RSA 2048 to 4096, SP integers for the rest.
    # Timing resistance and RSA blinding stay on; no cache of points, since no key comes twice.
    --enable-sp=yes --enable-sp-math-all
    --enable-harden --disable-fpecc

    # Algorithms of certificates, CMP, SCEP and TLS. SHA-1 is for key identifiers and HMAC-SHA1.
    --enable-ecc --with-eccminsz=256 --enable-ed25519 --enable-curve25519 --enable-rsapss
    --enable-keygen
    --enable-sha --enable-sha224 --enable-sha384 --enable-sha512 --enable-sha3
    --enable-aesgcm --enable-aescbc --enable-aeskeywrap --enable-chacha --enable-poly1305
    --enable-hkdf --enable-pwdbased
    --disable-dh --disable-md5 --disable-des3 --disable-arc4 --disable-dsa --disable-pkcs12
    # The SHA-256 DRBG has the same strength and seeds faster, once per connection.
    --disable-sha512-drbg

    # TLS 1.2 and 1.3 only.
    --enable-tlsv12 --enable-tls13 --disable-oldtls --disable-secure-renegotiation
    --enable-extended-master --enable-session-ticket --enable-sni --enable-alpn
    --enable-supportedcurves --enable-keying-material
    # certmill answers for revocation and trust itself.
    --disable-ocsp --disable-crl --disable-crl-monitor --disable-sys-ca-certs
)

# SESSION_CERTS is left out on purpose: it puts room for nine certificates of 8 KiB into every
# connection; so does KEEP_PEER_CERT a decoded one. The peer's chain is copied in the verify callback.
readonly -a DEFINES=(
    WOLFSSL_HAVE_TLS_UNIQUE   # wolfSSL_get_finished, for tls-unique (RFC 5929)
    WOLFSSL_ALT_CERT_CHAINS   # else each CA certificate a client shows stays in the context
    WOLFSSL_ALWAYS_VERIFY_CB  # the verify callback sees good chains too
    WOLFSSL_ALWAYS_KEEP_SNI   # the server can ask which name was wanted
    HAVE_EX_DATA              # wolfSSL_set_ex_data
    USE_ECC_B_PARAM           # wc_ecc_point_is_on_curve, in older versions
    WOLFSSL_GETRANDOM         # seed from the system call, not from a file
)

# -Wp, keeps _FORTIFY_SOURCE out of options.h, where certmill's debug builds would meet it.
readonly COMPILER_FLAGS="-O2 -g1 -fstack-protector-strong -Wp,-D_FORTIFY_SOURCE=2"

# ---------------------------------------------------------------------------------------------

usage()
{
    cat <<USAGE
NAME
    $PROGRAM - build wolfSSL for certmill, once, into the user's cache

SYNOPSIS
    $PROGRAM [--print-prefix | --info | --clean] [--source DIR] [--offline | --refresh] [--quiet]

DESCRIPTION
    Takes wolfSSL's source package from the Debian archive that apt is set up for on this
    machine, builds it as a static library with the SP assembly, checks the result and keeps it
    in the cache. When it is there already, nothing is built or fetched and the call returns at
    once. Calls at the same time wait for one another. Nothing is installed in the system, and
    root is not needed.

    The first of these suites that has the package and that apt can verify is taken:
    $DEFAULT_SUITES (the release that this machine runs).
    From a released suite the package is taken together with Debian's patches.

OPTIONS
    --print-prefix  Print the folder that has include/ and lib/libwolfssl.a; build if needed.
                    Progress goes to stderr, so that the output can be used as it is:
                    cmake -DCERTMILL_WOLFSSL_PREFIX="\$($PROGRAM --print-prefix)"
    --info          Print BUILD_INFO of that folder: version, origin, flags; build if needed.
    --source DIR    Build a wolfSSL source tree of your own instead (a copy of it; DIR is not
                    touched). A changed file in DIR leads to a new build.
    --offline       Do not use the network: take what is in the cache, or build from a source
                    package that was fetched earlier.
    --refresh       Ask the archive again, and build if it has another version by now.
    --clean         Remove everything that $PROGRAM keeps in the cache.
    --quiet         Print errors only.
    --help          Print this text.

ENVIRONMENT
    CERTMILL_CACHE           The cache; \$XDG_CACHE_HOME/certmill or ~/.cache/certmill if unset.
    CERTMILL_WOLFSSL_SOURCE  The same as --source.
    CERTMILL_WOLFSSL_SUITES  Debian suites to try, in this order, separated by spaces.
    CERTMILL_WOLFSSL_FLAGS   More options for wolfSSL's configure, for example
                             --enable-sessioncerts.
    CERTMILL_WOLFSSL_CC      The compiler; cc if unset. CC and CFLAGS are not looked at: every
                             build of certmill, with whatever compiler or sanitizer, links the
                             same library.

FILES
    CACHE/wolfssl-VERSION-HASH/   include/, lib/, BUILD_INFO. HASH covers this script, the flags
                                  and the compiler.
    CACHE/wolfssl-source/SUITE/   source packages, as fetched and verified by apt
    CACHE/wolfssl-HASH.log        output of the last build

EXIT STATUS
    0 it is there; 1 it could not be built or fetched; 2 wrong usage.
USAGE
}

say()
{
    if [[ $quiet == no ]]; then
        printf 'wolfssl: [%4d s] %s\n' "$SECONDS" "$*" >&2
    fi
}

# die MESSAGE [WHAT TO DO NEXT]
die()
{
    printf 'wolfssl: error: %s\n' "$1" >&2
    if [[ -n ${2-} ]]; then
        printf 'wolfssl: %s\n' "$2" >&2
    fi
    exit 1
}

# run WHAT COMMAND...: its output goes to the log; if it fails, show the end of that.
run()
{
    local what=$1
    shift
    printf '\n+ %s\n' "$*" >>"$log"
    if ! "$@" >>"$log" 2>&1 </dev/null; then
        tail -n 25 "$log" | sed 's/^/    /' >&2
        die "$what failed; the lines above are the end of $log" \
            "An older source may do: CERTMILL_WOLFSSL_SUITES='trixie bookworm'; or --source DIR."
    fi
}

need_tools()
{
    local tool missing=()
    for tool in "$@"; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    if ((${#missing[@]} > 0)); then
        die "not installed: ${missing[*]}" "Run: $HERE/packages.sh build --install"
    fi
}

# ---------------------------------------------------------------------------------------------
# Which build is wanted, and is it there?

cache_root()
{
    local root=${CERTMILL_CACHE:-}
    if [[ -z $root ]]; then
        root=${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}}
        [[ -n $root ]] || die "neither HOME nor XDG_CACHE_HOME nor CERTMILL_CACHE is set" \
            "Set CERTMILL_CACHE to a folder that may be written to."
        root=$root/certmill
    fi
    [[ $root == /* ]] || root=$PWD/$root
    printf '%s\n' "$root"
}

compiler_version()
{
    "$compiler" --version | sed -n 1p
}

# Changes whenever the library that would be built changes, so far as that can be told offline.
build_hash()
{
    {
        cat -- "${BASH_SOURCE[0]}" "$CHECK_SOURCE"
        uname -m
        compiler_version
        printf '%s\n' "${CERTMILL_WOLFSSL_FLAGS-}" "${CERTMILL_WOLFSSL_SUITES-}"
        if [[ -n $own_source ]]; then
            printf '%s\n' "$own_source"
            find "$own_source" -name .git -prune -o -type f -printf '%P %s %T@\n' | LC_ALL=C sort
        fi
    } | sha256sum | cut -c1-12
}

# The newest finished build for this hash.
find_built()
{
    local info
    info=$(printf '%s\n' "$cache"/wolfssl-*-"$hash"/BUILD_INFO | sort -V | tail -n 1)
    [[ -f $info ]] || return 1
    printf '%s\n' "${info%/BUILD_INFO}"
}

# ---------------------------------------------------------------------------------------------
# The source package

# Writes the settings for a private apt: own lists and sources, nothing of the system touched,
# no hooks of the system run, and unsigned or wrongly signed archives refused whatever the
# system's configuration says. Proxies and credentials stay as the system has them.
write_apt_conf()
{
    local folder=$1
    mkdir -p "$folder"/{state/lists/partial,cache/archives/partial}
    cat >"$folder/apt.conf" <<CONF
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Update::Post-Invoke-Stats;
Dir::Etc::SourceList "$folder/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State::Lists "$folder/state/lists/";
Dir::Cache "$folder/cache/";
APT::Default-Release "";
APT::Sandbox::User "$(id -un)";
APT::Update::Error-Mode "any";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Languages "none";
Acquire::PDiffs "false";
Acquire::Retries "3";
Debug::NoLocking "true";
quiet "1";
CONF
}

# Prints "ADDRESS CODENAME" for each Debian main archive in the machine's own configuration.
machine_archives()
{
    # shellcheck disable=SC2016  # the dollar signs are for apt
    apt-get "$@" indextargets --format '$(REPO_URI) $(CODENAME)' \
        'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 'Component: main' |
        awk '$1 !~ /^cdrom:/ && $2 !~ /-(updates|proposed-updates|backports)/ && !seen[$0]++'
}

# Sets archive and machine_suite.
find_archive()
{
    local found
    found=$(machine_archives || true)
    if [[ -z $found ]]; then
        # The lists were never fetched, or were removed, as container images do.
        local lists=$work/machine-lists
        say "apt has no package lists; fetching them into a private folder"
        mkdir -p "$lists/partial"
        run "apt-get update" apt-get -o Dir::State::Lists="$lists/" -o Debug::NoLocking=true \
            -o APT::Sandbox::User="$(id -un)" update
        found=$(machine_archives -o Dir::State::Lists="$lists/" || true)
    fi
    [[ -n $found ]] || die "apt is not set up with a Debian archive on this machine" \
        "Name a wolfSSL source tree with --source DIR, or add Debian's archive to apt's sources."
    read -r archive machine_suite <<<"$found"
}

# The key ring of the Debian archive; without one, apt's own trusted keys decide.
archive_keyring()
{
    local file
    for file in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
        if [[ -r $file ]]; then
            printf '%s\n' "$file"
            return
        fi
    done
}

is_rolling()
{
    [[ " $ROLLING_SUITES " == *" $1 "* ]]
}

# why_not FILE: the line of apt's output that says what went wrong
why_not()
{
    local reason
    if grep -qE 'NO_PUBKEY|not signed|EXPKEYSIG|BADSIG|invalid signature' "$1"; then
        reason="this machine's keys cannot verify it (a newer debian-archive-keyring helps)"
    else
        reason=$(grep -m1 '^E: ' "$1" || tail -n 1 "$1")
    fi
    printf '%s\n' "${reason#E: }"
}

# fetch_suite SUITE: source package of that suite into kept_sources/SUITE. Fails if it cannot
# be had; then the next suite is tried.
fetch_suite()
{
    local suite=$1
    local apt=$work/apt-$suite target=$work/source-$suite
    local output=$work/apt-$suite.out keyring version patches=none
    local -a apt_get=(apt-get --config-file "$apt/apt.conf")

    write_apt_conf "$apt"
    mkdir -p "$target"
    keyring=$(archive_keyring)
    printf 'deb-src %s%s %s main\n' "${keyring:+[signed-by=$keyring] }" "$archive" "$suite" \
        >"$apt/sources.list"

    say "asking the Debian archive for $PACKAGE in $suite"
    if ! "${apt_get[@]}" update >"$output" 2>&1 </dev/null; then
        cat "$output" >>"$log"
        say "$suite: $(why_not "$output"); trying the next suite"
        return 1
    fi
    version=$(apt-cache --config-file "$apt/apt.conf" showsrc "$PACKAGE" 2>>"$log" |
        awk '$1 == "Version:" { print $2 }' | sort -V | tail -n 1)
    if [[ -z $version ]]; then
        say "$suite: has no $PACKAGE; trying the next suite"
        return 1
    fi

    say "fetching $PACKAGE $version from $suite"
    if ! (cd "$target" && "${apt_get[@]}" source --download-only --tar-only "$PACKAGE=$version") \
        >"$output" 2>&1 </dev/null; then
        cat "$output" >>"$log"
        say "$suite: $(why_not "$output"); trying the next suite"
        return 1
    fi
    if (cd "$target" && "${apt_get[@]}" source --download-only --diff-only "$PACKAGE=$version") \
        >"$output" 2>&1 </dev/null; then
        patches=debian
    else
        cat "$output" >>"$log"
        if ! is_rolling "$suite"; then
            say "$suite: Debian's patches cannot be had, and it needs them; trying the next suite"
            return 1
        fi
        say "$suite: Debian's patches cannot be had; taking the upstream release as it is"
    fi

    rm -f "$target"/*.dsc "$target"/*.asc
    printf 'suite: %s\npackage: %s %s\npatches: %s\n' "$suite" "$PACKAGE" "$version" "$patches" \
        >"$target/ORIGIN"
    (cd "$target" && sha256sum -- * >SHA256SUMS)
    rm -rf "${kept_sources:?}/$suite"
    mkdir -p "$kept_sources"
    mv "$target" "$kept_sources/$suite"
}

kept_source_is_good()
{
    [[ -f $kept_sources/$1/SHA256SUMS ]] &&
        (cd "$kept_sources/$1" && sha256sum --check --strict --status SHA256SUMS)
}

# Sets source_folder to a folder with the package's files.
obtain_package()
{
    local suite suites=${CERTMILL_WOLFSSL_SUITES:-$DEFAULT_SUITES}
    local tried=" " archive="" machine_suite=""

    if [[ $offline == no ]]; then
        need_tools apt-get apt-cache
        find_archive
    fi
    for suite in $suites; do
        if [[ $suite == @machine ]]; then
            suite=$machine_suite
        fi
        if [[ -z $suite || $tried == *" $suite "* ]]; then
            continue
        fi
        tried+="$suite "
        if [[ $refresh == no ]] && kept_source_is_good "$suite"; then
            say "taking the source package of $suite from the cache"
        elif [[ $offline == yes ]]; then
            continue
        elif ! fetch_suite "$suite"; then
            continue
        fi
        source_folder=$kept_sources/$suite
        return
    done
    if [[ $offline == yes ]]; then
        die "nothing fitting is in the cache ($cache)" "Run $PROGRAM once without --offline."
    fi
    die "no suite of the Debian archive could be used (tried:$tried)" \
        "See $log. Check the network and apt's proxy settings, or use --source DIR."
}

apply_debian_patches()
{
    local tree=$1 name rest
    [[ -f $tree/debian/patches/series ]] || return 0
    while read -r name rest; do
        if [[ -n $name && $name != '#'* ]]; then
            run "Debian's patch $name" patch -d "$tree" -p1 --forward --batch \
                -i "$tree/debian/patches/$name"
            applied_patches+="${applied_patches:+ }$name"
        fi
    done <"$tree/debian/patches/series"
}

copy_tree()
{
    tar -C "$1" --exclude=./.git -cf - . | tar -C "$2" -xf -
}

# Up to and including 5.9.2 the SP assembly returns with the upper halves of the AVX registers
# in use. SSE code that comes next then runs many times slower until something clears them:
# SHA-256 (with the SHA extensions) of 512 bytes after a P-256 verification takes 65 us in place
# of 0.6 us, and every P-256 signature draws from a DRBG that hashes. So each function that uses
# these registers and does not clear them gets a vzeroupper before its return: no value is
# returned in them, and none of them outlives a call (System V ABI, 3.2.1).
clear_upper_halves()
{
    local tree=$1 file count=0
    for file in "$tree"/wolfcrypt/src/*_asm.S; do
        awk '
            FNR == 1 { pass++; name = "" }
            /^_?[A-Za-z][A-Za-z0-9_]*:/ && !/^L_/ { name = $1 }
            pass == 1 && /%[yz]mm/ { wide[name] = 1 }
            pass == 1 && /vzeroupper/ { cleared[name] = 1 }
            pass == 2 && wide[name] && !cleared[name] && /^[ \t]+(repz[ \t]+)?ret/ {
                print "\tvzeroupper # added for certmill"
            }
            pass == 2' "$file" "$file" >"$work/assembly"
        count=$((count + $(grep -c 'added for certmill' "$work/assembly" || true)))
        cat "$work/assembly" >"$file"
    done
    changes="vzeroupper added at $count returns"
}

# Fills the folder $1 with a source tree; sets origin and applied_patches.
unpack_source()
{
    local tree=$1
    mkdir -p "$tree"
    if [[ -n $own_source ]]; then
        say "copying $own_source"
        origin="source tree named by the user"
        run "copying $own_source" copy_tree "$own_source" "$tree"
        if [[ -f $tree/Makefile ]]; then
            run "make distclean" make -C "$tree" distclean
        fi
        return
    fi
    obtain_package
    origin=$(sed -n 's/^suite: //p; s/^package: //p' "$source_folder/ORIGIN" | paste -sd' ')
    origin="Debian $origin"
    if ! is_rolling "${source_folder##*/}"; then
        patches_needed=yes
    fi
    say "unpacking $origin"
    run "unpacking" tar -C "$tree" --strip-components=1 --no-same-owner -xf \
        "$(echo "$source_folder"/*.orig.tar.*)"
    if compgen -G "$source_folder/*.debian.tar.*" >/dev/null; then
        run "unpacking" tar -C "$tree" --no-same-owner -xf \
            "$(echo "$source_folder"/*.debian.tar.*)"
        apply_debian_patches "$tree"
    fi
}

# ---------------------------------------------------------------------------------------------
# The build

version_of()
{
    sed -n 's/^AC_INIT(\[wolfssl\], *\[\([0-9][0-9.]*\)\].*/\1/p' "$1/configure.ac"
}

# has_option OPTION: does this configure know it, in either form?
has_option()
{
    local name=${1%%=*}
    name=${name#--}
    name=${name#enable-}
    name=${name#disable-}
    name=${name#with-}
    grep -qE -- "^ +--(enable|disable|with|without)-$name([[ =]|\$)" "$work/configure-help"
}

# Sets options to what this version is configured with, for this machine.
choose_options()
{
    local tree=$1 option skipped=()
    local -a wanted=("${CONFIGURE_OPTIONS[@]}")

    case $(uname -m) in
        x86_64) wanted+=(--enable-sp-asm --enable-intelasm) ;;
        aarch64) wanted+=(--enable-sp-asm --enable-armasm) ;;
    esac
    # ML-DSA as FIPS 204 has it; before this header came, wolfSSL had a draft of it.
    if [[ -f $tree/wolfssl/wolfcrypt/wc_mldsa.h ]]; then
        wanted+=(--enable-mldsa)
    fi

    (cd "$tree" && ./configure --help) >"$work/configure-help"
    options=()
    for option in "${wanted[@]}"; do
        if has_option "$option"; then
            options+=("$option")
        else
            skipped+=("$option")
        fi
    done
    if ((${#skipped[@]} > 0)); then
        printf 'not known to this version: %s\n' "${skipped[*]}" >>"$log"
    fi
    # shellcheck disable=SC2206  # several options in one variable
    options+=(${CERTMILL_WOLFSSL_FLAGS-})
}

build()
{
    local tree=$work/tree stage=$work/stage version prefix defines jobs features
    local source_folder="" origin="" applied_patches="" changes=none patches_needed=no
    local -a options

    need_tools autoconf automake libtoolize make patch tar xz bzip2 flock sha256sum "$compiler"
    # The jobserver and flags of a make that called this script are not for wolfSSL.
    unset MAKEFLAGS MFLAGS MAKELEVEL CC CFLAGS CPPFLAGS CXXFLAGS LDFLAGS LIBS CCASFLAGS \
        C_EXTRA_FLAGS CONFIG_SITE DESTDIR
    jobs=$(nproc)

    unpack_source "$tree"
    version=$(version_of "$tree")
    [[ -n $version ]] || die "${own_source:-the package} does not look like wolfSSL's source" \
        "A folder with wolfSSL's configure.ac is expected."
    prefix=$cache/wolfssl-$version-$hash
    if [[ -f $prefix/BUILD_INFO ]]; then
        say "$version is the newest, and it is built"
        return
    fi

    if [[ $(uname -m) == x86_64 ]]; then
        clear_upper_halves "$tree"
    fi

    cd "$tree"
    if [[ -x autogen.sh ]]; then
        say "running autoconf"
        run "autogen.sh" ./autogen.sh
    fi
    choose_options "$tree"

    say "configuring wolfSSL $version"
    defines=$(printf -- '-D%s ' "${DEFINES[@]}")
    run "configure" ./configure --prefix="$prefix" "${options[@]}" CC="$compiler" \
        CFLAGS="$COMPILER_FLAGS -ffile-prefix-map=$tree=wolfssl-$version" CPPFLAGS="${defines% }"

    say "compiling, $jobs at a time"
    run "make" make -j"$jobs" src/libwolfssl.la
    run "make install" make DESTDIR="$stage" install-exec install-data
    # Documents, examples, libtool's and CMake's notes are of no use here.
    rm -rf "${stage:?}$prefix"/{share,bin,lib/cmake,lib/*.la}

    say "checking the library"
    run "compiling wolfssl_check.c" "$compiler" -std=c17 -O1 -Wall -Wextra \
        -I"$stage$prefix/include" -o "$work/check" "$CHECK_SOURCE" \
        "$stage$prefix/lib/libwolfssl.a" -lm -lpthread
    run "wolfssl_check" "$work/check"
    features=$("$work/check" | paste -sd' ')

    cat >"$stage$prefix/BUILD_INFO" <<INFO
version: $version
source: $origin
patches: ${applied_patches:-none}
changes: $changes
built: $(date -u +%Y-%m-%dT%H:%M:%SZ)
machine: $(uname -m)
compiler: $(compiler_version)
cflags: $COMPILER_FLAGS
defines: ${DEFINES[*]}
configure: ${options[*]}
optional: ${features:-none}
hash: $hash
INFO
    cd "$cache"
    mv -T "$stage$prefix" "$prefix"
    say "ready: wolfSSL $version ($origin)"
    if [[ -z $own_source && $patches_needed == yes ]]; then
        say "this is a released suite's version, with the fixes Debian brought back to it;"
        say "--refresh looks for a newer one"
    fi
}

# ---------------------------------------------------------------------------------------------

clean()
{
    rm -rf "$cache"/wolfssl-*
}

# lock: wait for another $PROGRAM at work. Children inherit the lock, so that a killed call
# frees it only when its compilers have gone too.
lock()
{
    if ! mkdir -p "$cache" 2>/dev/null || [[ ! -w $cache ]]; then
        die "cannot write in $cache" "Set CERTMILL_CACHE to a folder that may be written to."
    fi
    exec 9>"$cache/wolfssl.lock"
    if ! flock -n 9; then
        say "another build is running; waiting for it"
        flock 9
    fi
}

main()
{
    local action=build argument
    while (($# > 0)); do
        argument=$1
        shift
        case $argument in
            --print-prefix) action=print-prefix ;;
            --info) action=info ;;
            --clean) action=clean ;;
            --offline) offline=yes ;;
            --refresh) refresh=yes ;;
            --quiet | -q) quiet=yes ;;
            --source=*) own_source=${argument#*=} ;;
            --source)
                if (($# == 0)); then
                    usage_error "--source needs a folder"
                fi
                own_source=$1
                shift
                ;;
            --help | -h)
                usage
                return
                ;;
            *) usage_error "unknown argument: $argument" ;;
        esac
    done
    if [[ $offline == yes && $refresh == yes ]]; then
        usage_error "--offline and --refresh contradict each other"
    fi

    cache=$(cache_root)
    kept_sources=$cache/wolfssl-source
    if [[ $action == clean ]]; then
        lock
        clean
        say "removed wolfSSL from $cache"
        return
    fi

    if [[ -n $own_source ]]; then
        [[ -f $own_source/configure.ac ]] || die "$own_source has no configure.ac" \
            "Name the top folder of a wolfSSL source tree."
        own_source=$(cd -- "$own_source" && pwd)
    fi
    need_tools "$compiler" sha256sum flock
    hash=$(build_hash)

    local prefix=""
    if [[ $refresh == yes ]] || ! prefix=$(find_built); then
        lock
        # Another call may have built it while this one waited.
        if [[ $refresh == yes ]] || ! prefix=$(find_built); then
            rm -rf "$cache"/wolfssl-build.*
            work=$(mktemp -d "$cache/wolfssl-build.XXXXXX")
            trap 'rm -rf "$work"' EXIT
            trap 'exit 130' INT
            trap 'exit 143' TERM HUP
            log=$cache/wolfssl-$hash.log
            : >"$log"
            build
            prefix=$(find_built) || die "the build is not where it should be" "See $log."
        fi
    fi

    case $action in
        print-prefix) printf '%s\n' "$prefix" ;;
        info) cat "$prefix/BUILD_INFO" ;;
        build) say "$prefix" ;;
    esac
}

usage_error()
{
    printf 'wolfssl: %s\nTry: %s --help\n' "$1" "$PROGRAM" >&2
    exit 2
}

quiet=no
offline=no
refresh=no
own_source=${CERTMILL_WOLFSSL_SOURCE-}
compiler=${CERTMILL_WOLFSSL_CC:-cc}
cache="" kept_sources="" hash="" work="" log=""

main "$@"
