#!/usr/bin/env bash
# Do the README's two commands end well on a Debian 12 that has nothing on it?
#
# Not part of the test run: it needs root, the Debian archive and an hour. Run it before a
# release, and whenever deploy/ or the list of packages has changed. See --help.

set -euo pipefail

readonly PROGRAM=${0##*/}
HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
readonly HERE
readonly SUITE=bookworm
readonly BROUGHT_ALONG=git,ca-certificates,sudo
readonly TREE=/src/certmill # in the new root

usage()
{
    cat <<USAGE
NAME
    $PROGRAM - try certmill in a fresh, minimal Debian 12

SYNOPSIS
    $PROGRAM [--dir DIR] [--commit REV] [--keep] [--user] [STEP...] [-- COMMAND...]

DESCRIPTION
    Makes a root file system with debootstrap (minbase, $BROUGHT_ALONG), from the
    archive that apt is set up for on this machine; copies this working tree into it, with files
    that are not committed yet and without ignored ones; and runs the steps there, in order:

    packages    deploy/deps/packages.sh all --install
    build       deploy/deps/wolfssl.sh, then the release build
    quickstart  deploy/quickstart.sh twice, what it tells to try next, and --stop
    tests       tests/run.sh

    Without a step: quickstart, then tests. COMMAND is run behind them, in the tree.

    The steps see the machine's network and devices, but have mounts and processes of their own:
    whatever is still running at the end goes away with them.

OPTIONS
    --commit REV
                Copy this commit, not the working tree.
    --dir DIR   Where the root file systems lie, default \${TMPDIR:-/tmp}/certmill-chroot; about
                4 GB. Remove it when it is not needed any more.
    --keep      Go on in the root of the last call, with its packages, its wolfSSL and its build.
                Without this the root is made anew; what debootstrap fetched is kept.
    --user      Run the steps as a user who has sudo, not as root.
    --help      Print this text.

EXIT STATUS
    That of the first step that failed; 0 if all went well; 2 wrong usage.
USAGE
}

say()
{
    printf '\n#### [%5d s] %s\n' "$SECONDS" "$*" >&2
}

die()
{
    printf '%s: %s\n' "$PROGRAM" "$*" >&2
    exit 1
}

usage_error()
{
    printf '%s: %s\nTry: %s --help\n' "$PROGRAM" "$1" "$PROGRAM" >&2
    exit 2
}

# ---------------------------------------------------------------------------------------------
# The root file system

archive()
{
    # shellcheck disable=SC2016  # the dollar sign is for apt
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' \
        'Label: Debian' | sed -n 1p
}

make_base()
{
    local mirror
    mirror=$(archive)
    [[ -n $mirror ]] || die "apt on this machine has no Debian archive, or no lists: apt-get update"
    say "debootstrap of $SUITE"
    rm -rf "$root"
    debootstrap --variant=minbase --include="$BROUGHT_ALONG" "$SUITE" "$root" "$mirror" \
        >"$dir/debootstrap.log" 2>&1 || die "debootstrap failed: $(tail -n 3 "$dir/debootstrap.log")"
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    # How this machine reaches the archive; if that is a snapshot, its dates are old.
    apt-config dump | grep -E '^Acquire::(https?::Proxy|Check-Valid-Until)' \
        >"$root/etc/apt/apt.conf.d/90machine" || true
    tar -C "$root" --numeric-owner -cf "$dir/base.tar.part" .
    mv "$dir/base.tar.part" "$dir/base.tar"
}

make_root()
{
    if [[ ! -f $dir/base.tar ]]; then
        make_base
        return
    fi
    say "a fresh root from $dir/base.tar"
    rm -rf "$root"
    mkdir -p "$root"
    tar -C "$root" --numeric-owner -xpf "$dir/base.tar"
}

# The tree as it is, over the one of the last call; build/ stays.
copy_tree()
{
    mkdir -p "$root$TREE"
    find "$root$TREE" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
    if [[ -n $commit ]]; then
        git -C "$HERE" archive "$commit" | tar -C "$root$TREE" --no-same-owner -xpmf -
    else
        copy_working_tree
    fi
    git -C "$root$TREE" init -q # as a clone has it
    if [[ $account != root ]]; then
        chroot "$root" id "$account" >/dev/null 2>&1 ||
            chroot "$root" useradd --create-home --shell /bin/bash "$account"
        echo "$account ALL=(ALL) NOPASSWD: ALL" >"$root/etc/sudoers.d/$account"
        chmod 0440 "$root/etc/sudoers.d/$account"
    fi
    chroot "$root" chown -R "$account": "$TREE"
}

copy_working_tree()
{
    (cd "$HERE" && git ls-files -coz --exclude-standard |
        while IFS= read -r -d '' file; do
            if [[ -e $file || -L $file ]]; then
                printf '%s\0' "$file"
            fi
        done | tar --null -T - -cf -) | tar -C "$root$TREE" --no-same-owner -xpf -
}

# ---------------------------------------------------------------------------------------------
# Inside

# in_root COMMAND: in the tree, in a login shell of the account. In a process namespace of its own:
# when its first shell ends, what is still running is killed; until then that shell is the init that
# collects orphans.
in_root()
{
    # shellcheck disable=SC2016  # for the shell inside
    unshare --mount --pid --fork --kill-child -- /bin/sh -c '
        root=$1; shift
        mount -t proc proc "$root/proc"
        mount --rbind /sys "$root/sys"
        mount --rbind /dev "$root/dev"
        chroot "$root" "$@"
        exit $?' sh "$root" su --login --whitelist-environment=http_proxy,https_proxy,no_proxy \
        --shell /bin/bash "$account" -c "cd $TREE && $1"
}

# Twice; then the README's enrollment by hand and what quickstart.sh tells to try next, as they are
# written there for people to paste.
# shellcheck disable=SC2016  # for the shell inside
readonly QUICKSTART='
    set -eo pipefail
    ./deploy/quickstart.sh
    ./deploy/quickstart.sh
    sudo apt-get -y -qq install --no-install-recommends strongswan-pki \
        libstrongswan-standard-plugins libstrongswan-extra-plugins >/dev/null 2>&1
    echo "---- pasting the enrollment of the README"
    sed -n "/^## A first enrollment/,/^## The path/s/^    //p" README.md >certmill-demo/readme.sh
    bash -eux -o pipefail certmill-demo/readme.sh
    echo "---- pasting what quickstart.sh says to try next"
    bash -eux -o pipefail certmill-demo/next-steps.sh
    ./deploy/quickstart.sh --port 18443 --admin-port 19443
    ./deploy/quickstart.sh --stop
    ./deploy/quickstart.sh --stop'

run_step()
{
    local command
    case $1 in
        packages) command='./deploy/deps/packages.sh all --install' ;;
        build)
            # shellcheck disable=SC2016  # for the shell inside
            command='./deploy/deps/packages.sh build --install &&
                prefix=$(./deploy/deps/wolfssl.sh --print-prefix) &&
                cmake --preset release -DCERTMILL_TESTS=OFF -DCERTMILL_WOLFSSL_PREFIX="$prefix" &&
                cmake --build --preset release'
            ;;
        quickstart) command=$QUICKSTART ;;
        tests) command='./tests/run.sh' ;;
        *) command=$1 ;;
    esac
    say "$1"
    local begun=$SECONDS status=0
    nice -n 10 bash -c "$(declare -f in_root); in_root \"\$1\"" in_root "$command" || status=$?
    say "$1: exit status $status after $((SECONDS - begun)) s"
    return "$status"
}

main()
{
    local keep=no
    local -a steps=()
    dir=${TMPDIR:-/tmp}/certmill-chroot
    account=root
    commit=""
    while (($# > 0)); do
        case $1 in
            --dir)
                dir=${2:?--dir needs a folder}
                shift
                ;;
            --commit)
                commit=${2:?--commit needs a revision}
                shift
                ;;
            --keep) keep=yes ;;
            --user) account=builder ;;
            --help | -h)
                usage
                return
                ;;
            --)
                shift
                steps+=("$*")
                break
                ;;
            packages | build | quickstart | tests) steps+=("$1") ;;
            *) usage_error "unknown argument: $1" ;;
        esac
        shift
    done
    ((${#steps[@]} > 0)) || steps=(quickstart tests)
    ((EUID == 0)) || die "chroot needs root"
    command -v debootstrap >/dev/null || die "debootstrap is not installed"
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd)
    root=$dir/root
    export root account TREE

    if [[ $keep == no || ! -d $root$TREE ]]; then
        make_root
    fi
    copy_tree
    local step
    for step in "${steps[@]}"; do
        run_step "$step" || exit
    done
}

main "$@"
