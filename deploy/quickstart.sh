#!/usr/bin/env bash
# quickstart.sh: from a fresh Debian 12 to a running appliance that has enrolled a device.
#
# Promise: run again, it keeps token, CA, stations, configuration and store, and enrolls one more
#          device. It signals only the daemon that it started itself.
#
# Run with --help for the options.

set -euo pipefail

readonly PROGRAM=${0##*/}
HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
readonly HERE
readonly BIN=$HERE/build/release/bin
readonly LINE=line1 STATION=station-1
readonly DEFAULT_PORT=8443 DEFAULT_ADMIN_PORT=9443
readonly START_MAX_S=60 STOP_MAX_S=40

usage()
{
    cat <<USAGE
NAME
    $PROGRAM - build certmill, start it with a software token, enroll a device

SYNOPSIS
    $PROGRAM [--dir DIR] [--port N] [--admin-port N] [--no-install] [--restart]
    $PROGRAM [--dir DIR] --stop

DESCRIPTION
    Installs the Debian packages that are missing (as root, or through sudo), builds wolfSSL and
    certmill, and makes in DIR all that an appliance needs: a SoftHSM token with random PINs, a root
    and an issuing CA with their keys in the token, a TLS server certificate, a station with a random
    password, and certmill.yaml. Then it starts certmilld, enrolls a device with openssl and curl,
    repeats the request, renews the certificate, verifies it, and tells what to try next.

    It listens on this machine's loopback addresses only, and nothing is written outside of DIR,
    this source tree, the user's cache and the system's packages.

    Run again, it keeps everything in DIR and enrolls another device. certmilld keeps running; it is
    restarted if its binary or certmill.yaml are newer than it.

OPTIONS
    --dir DIR       Where the appliance lives; default ./certmill-demo in the current folder. It
                    holds secrets: its files are readable by you alone, and git ignores it.
    --port N        EST over TLS; default $DEFAULT_PORT, or what certmill.yaml in DIR says.
    --admin-port N  Metrics and health; default $DEFAULT_ADMIN_PORT, or what certmill.yaml in DIR says.
    --no-install    Install no packages.
    --restart       Restart certmilld in any case.
    --stop          Stop the certmilld of DIR, and do nothing else.
    --help          Print this text.

EXIT STATUS
    0 done; 1 failed, with the reason and what to do; 2 wrong usage.
USAGE
}

# ---------------------------------------------------------------------------------------------

say()
{
    printf '\n== [%4d s] %s\n' "$SECONDS" "$*"
}

# die WHAT [WHAT TO DO]
die()
{
    printf '\n%s: %s\n' "$PROGRAM" "$1" >&2
    if [[ -n ${2-} ]]; then
        printf '%s: %s\n' "$PROGRAM" "$2" >&2
    fi
    exit 1
}

usage_error()
{
    printf '%s: %s\nTry: %s --help\n' "$PROGRAM" "$1" "$PROGRAM" >&2
    exit 2
}

tail_of()
{
    printf -- '---- the end of %s\n' "$1" >&2
    tail -n "${2:-20}" "$1" | sed 's/^/    /' >&2
}

# run WHAT COMMAND...: its output goes to the log; if it fails, the end of that is shown.
run()
{
    local what=$1 before
    shift
    printf '+ %s\n' "$*" >>"$log"
    before=$(wc -l <"$log")
    if ! "$@" >>"$log" 2>&1 </dev/null; then
        tail -n "+$((before + 1))" "$log" | tail -n 25 | sed 's/^/    /' >&2
        die "$what failed" "The lines above say why; all of them are in $log."
    fi
}

# ---------------------------------------------------------------------------------------------
# The build

# Ninja's "[n/m] ..." as a line that is rewritten on a terminal, and every tenth elsewhere.
show_progress()
{
    local text last=-1 tenth
    while IFS= read -r text; do
        printf '%s\n' "$text" >>"$log"
        if [[ $text =~ ^\[([0-9]+)/([0-9]+)\] ]] && ((BASH_REMATCH[2] >= 10)); then
            tenth=$((10 * BASH_REMATCH[1] / BASH_REMATCH[2]))
            if [[ -t 1 ]]; then
                printf '\r   %s of %s steps ' "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
            elif ((tenth != last)); then
                printf '   %s of %s steps\n' "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
                last=$tenth
            fi
        fi
    done
    if [[ -t 1 ]]; then
        printf '\r\033[K'
    fi
}

build()
{
    local prefix
    local -a options=()
    if [[ $install == yes ]]; then
        say "packages"
        "$HERE/deploy/deps/packages.sh" build run --install ||
            die "packages are missing" "See above; --no-install goes on without installing any."
    fi
    say "wolfSSL (the first time takes some minutes)"
    prefix=$("$HERE/deploy/deps/wolfssl.sh" --print-prefix) ||
        die "wolfSSL could not be built" "See above."

    log=$(mktemp "${TMPDIR:-/tmp}/certmill-build.XXXXXX")
    say "certmill"
    if ! pkg-config --exists cmocka; then
        options+=(-DCERTMILL_TESTS=OFF) # tests/run.sh switches them on again
    fi
    run "cmake" cmake -S "$HERE" --preset release -DCERTMILL_WOLFSSL_PREFIX="$prefix" "${options[@]}"
    if ! NINJA_STATUS='[%f/%t] ' cmake --build "$HERE/build/release" --target \
        certmilld certmill-signer certmill certmill-bench 2>&1 </dev/null | show_progress; then
        tail_of "$log" 40
        die "the build failed" "The lines above are the end of $log."
    fi
    rm -f "$log"
    "$BIN/certmilld" --version | sed -n 's/^/   /; 1p; /version:\|source:/p'
}

# ---------------------------------------------------------------------------------------------
# The daemon

# The daemon's process id, if it runs and is the one that serves this folder.
running_pid()
{
    local pid
    pid=$(cat "$dir/run/certmilld.pid" 2>/dev/null) || return 1
    [[ $pid =~ ^[1-9][0-9]*$ && -r /proc/$pid/cmdline ]] || return 1
    # Empty for a process that has ended and waits to be collected.
    [[ $(tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null) == "$BIN/certmilld"$'\n'--config$'\n'"$dir/certmill.yaml" ]] ||
        return 1
    printf '%s\n' "$pid"
}

stop()
{
    local pid waited=0
    if ! pid=$(running_pid); then
        return 1
    fi
    kill -TERM "$pid"
    while running_pid >/dev/null; do
        if ((waited >= STOP_MAX_S * 10)); then
            tail_of "$dir/certmilld.log"
            die "certmilld (process $pid) has not stopped within $STOP_MAX_S s" "Try: kill -9 $pid"
        fi
        sleep 0.1
        waited=$((waited + 1))
    done
    rm -f "$dir/run/certmilld.pid"
}

is_healthy()
{
    [[ $(curl -s --max-time 2 "http://127.0.0.1:$admin_port/health" 2>/dev/null) == ok ]]
}

is_taken()
{
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

start()
{
    local pid waited=0 taken
    for taken in "$port" "$admin_port"; do
        if is_taken "$taken"; then
            die "port $taken of this machine is taken by another program" \
                "Choose others: --port N --admin-port N"
        fi
    done
    setsid "$BIN/certmilld" --config "$dir/certmill.yaml" </dev/null >>"$dir/certmilld.log" 2>&1 &
    pid=$!
    printf '%s\n' "$pid" >"$dir/run/certmilld.pid"
    until is_healthy; do
        if ! kill -0 "$pid" 2>/dev/null; then
            tail_of "$dir/certmilld.log"
            die "certmilld did not start" "The lines above, the end of $dir/certmilld.log, say why."
        fi
        if ((waited >= START_MAX_S * 10)); then
            tail_of "$dir/certmilld.log"
            die "certmilld is not ready after $START_MAX_S s" "The lines above may say why."
        fi
        sleep 0.1
        waited=$((waited + 1))
    done
    disown
}

start_or_keep()
{
    local pid
    # Before a running one is stopped for a file that the next will not take.
    run "checking certmill.yaml" "$BIN/certmilld" --config "$dir/certmill.yaml" --check
    if pid=$(running_pid); then
        if [[ $restart == no && ! $BIN/certmilld -nt $dir/run/certmilld.pid &&
            ! $dir/certmill.yaml -nt $dir/run/certmilld.pid ]] && is_healthy; then
            say "certmilld is running (process $pid)"
            return
        fi
        say "restarting certmilld"
        stop
    else
        say "starting certmilld"
    fi
    start
    printf '   EST on https://localhost:%s, metrics and health on http://127.0.0.1:%s\n' \
        "$port" "$admin_port"
    printf '   process %s, log %s\n' "$(cat "$dir/run/certmilld.pid")" "$dir/certmilld.log"
}

# ---------------------------------------------------------------------------------------------
# What an appliance needs

find_softhsm()
{
    local file
    for file in /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so; do
        if [[ -e $file ]]; then
            printf '%s\n' "$file"
            return
        fi
    done
    die "SoftHSM is not installed" "Run: $HERE/deploy/deps/packages.sh run --install"
}

# A secret that a shell, a URL and YAML take as it is.
random_word()
{
    openssl rand -hex "$1"
}

make_token()
{
    module=$(find_softhsm)
    cat >softhsm2.conf <<CONF
directories.tokendir = $dir/tokens
objectstore.backend = file
log.level = ERROR
slots.removable = false
CONF
    if [[ -n $(ls -A tokens) ]]; then
        return
    fi
    say "a software token"
    random_word 16 >pin
    random_word 16 >so-pin
    run "certmill token init" certmill token init --module "$module" --label certmill \
        --pin-file pin --so-pin-file so-pin
    printf '   SoftHSM, label certmill, in %s; PINs in the files pin and so-pin\n' "$dir/tokens"
}

make_station()
{
    if [[ ! -s $STATION.password ]]; then
        random_word 12 >$STATION.password
    fi
    # curl reads it from here: on its command line others could see it.
    printf 'machine localhost login %s password %s\n' "$STATION" "$(cat $STATION.password)" \
        >$STATION.netrc
}

make_configuration()
{
    local hash
    hash=$(certmill station hash-password <$STATION.password) ||
        die "certmill station hash-password failed" "See above."
    cat >certmill.yaml.new <<YAML
# certmill.yaml: made by deploy/quickstart.sh, yours from now on.
#
# Every option, explained:  certmill config sample
# After a change:           certmilld --config certmill.yaml --check, then kill -HUP the process
# Names of files start at this file's folder.

listeners:
  - address: 127.0.0.1        # the loopback address: give the machine's own to serve a network
    port: $port
tls:
  certificate: tls/server.pem
  key: tls/server.key

default_line: $LINE           # for EST paths without a label
cores: 2                      # threads that serve; leave it out for one on each core
pin_cores: no                 # leave it out on a machine that does nothing else

admin:
  socket: run/admin.sock      # for: certmill status
  port: $admin_port                  # http://127.0.0.1:$admin_port/metrics and /health
store:
  dir: store
  map_size: 4294967296        # how large it may grow: 4 GiB

tokens:
  - name: softhsm
    module: $module
    uri: pkcs11:token=certmill
    pin_file: pin
    signers: 2                # processes that hold the module: SoftHSM works in one thread of each,
    sessions: 1               # so one a process; with an HSM 1 signer with many sessions
    verify_one_in: 1          # every signature of the token is verified before it is used

cas:
  - name: issuing
    key: pkcs11:object=issuing
    certificate: ca/issuing.pem
    chain: [ca/root.pem]

profiles:
  - name: device              # what a certificate looks like
    base: tls-device
    validity: 398d

stations:
  - name: $STATION
    password_hash: '$hash'
    roles: [enroll, confirm]

lines:
  - name: $LINE               # https://localhost:$port/.well-known/est/$LINE/simpleenroll
    ca: issuing
    profile: device
    device_id: subject-cn     # which device it is, says the subject's common name
    renewal: yes              # a device renews with its current certificate
YAML
    mv certmill.yaml.new certmill.yaml
}

# port_of SECTION: what certmill.yaml says
port_of()
{
    awk -v section="$1:" '/^[a-z]/ { current = $1 }
        current == section && ($1 == "port:" || $2 == "port:") {
            print $1 == "port:" ? $2 : $3; exit }' certmill.yaml
}

# set_port SECTION OLD NEW
set_port()
{
    awk -v section="$1:" -v old="$2" -v new="$3" '/^[a-z]/ { current = $1 }
        current == section && /port:/ && !done { done = sub("port: *" old, "port: " new) }
        { print }' certmill.yaml >certmill.yaml.new
    mv certmill.yaml.new certmill.yaml
}

# Ports: what was asked for, else what the configuration says, else the defaults.
settle_ports()
{
    local old
    if [[ -f certmill.yaml ]]; then
        old=$(port_of listeners)
        if [[ -n $port && $port != "$old" ]]; then
            set_port listeners "$old" "$port"
        fi
        port=${port:-$old}
        old=$(port_of admin)
        if [[ -n $admin_port && $admin_port != "$old" ]]; then
            set_port admin "$old" "$admin_port"
        fi
        admin_port=${admin_port:-$old}
        [[ $port =~ ^[0-9]+$ && $admin_port =~ ^[0-9]+$ ]] ||
            die "the ports cannot be read from $dir/certmill.yaml" "Give --port and --admin-port."
    fi
    port=${port:-$DEFAULT_PORT}
    admin_port=${admin_port:-$DEFAULT_ADMIN_PORT}
}

make_ca()
{
    local -a force=()
    if [[ -s ca/issuing.pem && -s ca/root.pem ]]; then
        return
    fi
    say "root and issuing CA, keys in the token"
    if [[ -e ca/issuing.pem || -e ca/root.pem ]]; then
        force=(--force) # an interrupted run
    fi
    run "certmill ca init" certmill ca init --ca issuing --subject "CN=Demo Issuing CA,O=Demo Factory" \
        --root-subject "CN=Demo Root CA,O=Demo Factory" "${force[@]}"
    openssl x509 -in ca/issuing.pem -noout -subject -issuer -enddate -nameopt RFC2253 |
        sed 's/^/   /'
}

# The server's certificate comes from a small CA of its own, as it does in a factory: devices'
# certificates and the certificate of this server are different matters.
make_server_certificate()
{
    local name
    if [[ -s tls/server.pem ]] && openssl x509 -in tls/server.pem -noout -checkend 2592000 >/dev/null; then
        return
    fi
    say "a TLS server certificate"
    if [[ ! -s tls/ca.pem ]]; then
        run "openssl req" openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
            -days 3650 -subj "/O=Demo Factory/CN=Demo Server CA" \
            -addext "basicConstraints=critical,CA:TRUE,pathlen:0" \
            -addext "keyUsage=critical,keyCertSign,cRLSign" -keyout tls/ca.key -out tls/ca.pem
    fi
    name=$(hostname 2>/dev/null || echo localhost)
    cat >tls/server.ext <<EXT
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, DNS:$name, IP:127.0.0.1, IP:::1
EXT
    run "openssl req" openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
        -subj "/O=Demo Factory/CN=$name" -keyout tls/server.key -out tls/server.csr
    run "openssl x509" openssl x509 -req -in tls/server.csr -CA tls/ca.pem -CAkey tls/ca.key \
        -CAcreateserial -days 397 -extfile tls/server.ext -out tls/server.pem
    rm -f tls/server.csr tls/server.ext
    printf '   for localhost and %s; devices trust it through %s\n' "$name" "$dir/tls/ca.pem"
}

# For the shell of whoever tries things by hand.
make_environment()
{
    cat >./env <<ENV
# To be read by a shell: . $(printf %q "$dir/env")
export PATH=$(printf %q "$BIN"):\$PATH
export SOFTHSM2_CONF=$(printf %q "$dir/softhsm2.conf")
export CERTMILL_CONFIG=$(printf %q "$dir/certmill.yaml")
ENV
}

prepare()
{
    umask 077
    mkdir -p "$dir"/{tokens,ca,tls,run,devices} || die "$dir cannot be made" "Choose another --dir."
    dir=$(cd "$dir" && pwd)
    # A socket's address holds 107 characters.
    ((${#dir} <= 107 - 15)) || die "$dir is too long a name for a folder with sockets" \
        "Choose a shorter --dir."
    cd "$dir"
    printf '*\n' >.gitignore
    log=$dir/quickstart.log
    printf -- '---- %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >>"$log"
    export PATH=$BIN:$PATH SOFTHSM2_CONF=$dir/softhsm2.conf CERTMILL_CONFIG=$dir/certmill.yaml

    settle_ports
    make_environment
    make_token
    make_station
    if [[ ! -s certmill.yaml ]]; then
        make_configuration
    fi
    make_ca
    make_server_certificate
}

# ---------------------------------------------------------------------------------------------
# A device

# est OPERATION REQUEST OUTPUT CURL-OPTIONS...: one request, the certificate as PEM.
est()
{
    local operation=$1 request=$2 output=$3 answer
    shift 3
    printf '+ %s %s\n' "$operation" "$request" >>"$log"
    if ! answer=$(curl -sS --fail-with-body --max-time 30 --cacert tls/ca.pem "$@" \
        -H "Content-Type: application/pkcs10" --data-binary "@$request" \
        "https://localhost:$port/.well-known/est/$LINE/$operation" 2>&1); then
        printf '%s\n' "$answer" | sed 's/^/    /' >&2
        tail_of certmilld.log
        die "$operation was refused" "The answer is above, and the end of $dir/certmilld.log."
    fi
    base64 -d <<<"$answer" | openssl pkcs7 -inform DER -print_certs | sed '/^$/d' >"$output" ||
        die "the answer to $operation is no certificate" "It was: $answer"
}

# request NAME KEY: a key pair and a PKCS#10 request, as a device makes them
request()
{
    run "openssl req" openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
        -subj "/CN=$1" -keyout "devices/$2.key" -outform DER -out "devices/$2.der"
    openssl base64 -in "devices/$2.der" -out "devices/$2.csr"
    rm -f "devices/$2.der"
}

next_device()
{
    local number=1
    while [[ -e $(printf 'devices/device-%04d.key' $number) ]]; do
        number=$((number + 1))
    done
    printf 'device-%04d' $number
}

serial_of()
{
    openssl x509 -in "$1" -noout -serial | sed 's/.*=//'
}

enroll()
{
    local device again
    device=$(next_device)
    again=devices/$device.again

    say "enrolling $device: EST simpleenroll, with the station's password"
    request "$device" "$device"
    est simpleenroll "devices/$device.csr" "devices/$device.pem" --netrc-file $STATION.netrc
    openssl x509 -in "devices/$device.pem" -noout -text -nameopt RFC2253 \
        -certopt no_version,no_header,no_signame,no_pubkey,no_sigdump | sed '/^ *$/d; s/^ \{4\}//'

    say "the same request again, as after a lost answer"
    est simpleenroll "devices/$device.csr" "$again" --netrc-file $STATION.netrc
    cmp -s "devices/$device.pem" "$again" ||
        die "the second answer differs from the first" "This is a bug in certmill."
    rm -f "$again"
    printf '   the same certificate, byte for byte; nothing was issued twice\n'

    say "renewing it: a new key, authenticated by the current certificate"
    request "$device" "$device.renewed"
    est simplereenroll "devices/$device.renewed.csr" "devices/$device.renewed.pem" \
        --cert "devices/$device.pem" --key "devices/$device.key"
    printf '   serial %s, after %s\n' "$(serial_of "devices/$device.renewed.pem")" \
        "$(serial_of "devices/$device.pem")"

    say "verifying: from the device through the issuing CA to the root, with openssl"
    openssl verify -CAfile ca/root.pem -untrusted ca/issuing.pem "devices/$device.pem" \
        "devices/$device.renewed.pem" | sed 's/^/   /' ||
        die "openssl does not accept the chain" "This is a bug in certmill."
    say "what certmill has on record (certmill cert list, certmill journal verify)"
    certmill cert list --limit 5 | sed 's/^/   /'
    certmill journal verify | sed 's/^/   /'
}

# ---------------------------------------------------------------------------------------------

# Also kept in a file, so that it can be read again (and be tested).
write_next_steps()
{
    cat >next-steps.sh <<STEPS
cd $(printf %q "$dir") && . ./env

# Enroll a device by hand: a key, a request, and the certificate.
device=my-device-\$RANDOM
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=\$device" \\
    -keyout devices/\$device.key -outform DER | openssl base64 >devices/\$device.csr
curl -sS --fail-with-body --cacert tls/ca.pem --netrc-file $STATION.netrc \\
    -H "Content-Type: application/pkcs10" --data-binary @devices/\$device.csr \\
    https://localhost:$port/.well-known/est/$LINE/simpleenroll |
    base64 -d | openssl pkcs7 -inform DER -print_certs -out devices/\$device.pem
openssl x509 -in devices/\$device.pem -noout -subject -issuer -serial -enddate

# Look at the appliance, at what it has issued, and at its numbers.
certmill status
certmill line list
certmill cert list --limit 5
certmill --json cert list --limit 1
certmill journal verify
curl -s http://127.0.0.1:$admin_port/metrics | grep '^certmill_store'

# Put load on it: every answer is checked against its request.
certmill-bench est --port $port --path /.well-known/est/$LINE --ca tls/ca.pem \\
    --basic "$STATION:\$(cat $STATION.password)" --connections 8 --requests 2000 \\
    --server-pid "\$(cat run/certmilld.pid)"

# Change certmill.yaml, have it checked, and let the running daemon take it over.
certmilld --config certmill.yaml --check && kill -HUP "\$(cat run/certmilld.pid)"

# Enroll with strongSwan's client. It comes with these packages:
#   strongswan-pki libstrongswan-standard-plugins libstrongswan-extra-plugins
pki --gen --type ecdsa --size 256 --outform pem >devices/swan.key
pki --req --in devices/swan.key --type ecdsa --dn "CN=swan-\$RANDOM" --outform der >devices/swan.der
pki --est --url https://localhost:$port --in devices/swan.der --cacert tls/ca.pem \\
    --cacert ca/root.pem --cacert ca/issuing.pem \\
    --userpass "$STATION:\$(cat $STATION.password)" --outform pem >devices/swan.pem
openssl x509 -in devices/swan.pem -noout -subject -issuer -serial -enddate
STEPS
}

finish()
{
    local self=$HERE/deploy/$PROGRAM
    write_next_steps
    say "done. certmilld is running; everything lies in $dir:"
    cat <<SUMMARY
   certmill.yaml        the configuration         certmilld.log   the daemon's log
   ca/  tls/  devices/  certificates              store/          what was issued, and the journal
   tokens/              SoftHSM's keys            pin  so-pin  $STATION.password   secrets

WHAT TO TRY NEXT (also in $dir/next-steps.sh)

SUMMARY
    sed 's/./    &/' next-steps.sh
    cat <<SUMMARY

    # Stop it; and start it again, with one more device.
    $(printf %q "$self") --dir $(printf %q "$dir") --stop
    $(printf %q "$self") --dir $(printf %q "$dir")

SUMMARY
}

# check_port OPTION VALUE
check_port()
{
    if ! [[ $2 =~ ^[1-9][0-9]{0,4}$ ]] || (($2 > 65535)); then
        usage_error "$1: expected a port, 1 to 65535"
    fi
}

main()
{
    local action=start
    while (($# > 0)); do
        case $1 in
            --dir | --port | --admin-port)
                (($# > 1)) || usage_error "$1 wants a value behind it"
                case $1 in
                    --dir) dir=$2 ;;
                    --port) port=$2 ;;
                    --admin-port) admin_port=$2 ;;
                esac
                [[ $1 == --dir ]] || check_port "$1" "$2"
                shift
                ;;
            --no-install) install=no ;;
            --restart) restart=yes ;;
            --stop) action=stop ;;
            --help | -h)
                usage
                return
                ;;
            *) usage_error "unknown argument: $1" ;;
        esac
        shift
    done
    [[ -n $dir ]] || usage_error "--dir wants a folder"
    if [[ $action == stop ]]; then
        [[ -d $dir ]] || die "there is no folder $dir" \
            "Name the one that $PROGRAM was run with: --dir DIR"
        dir=$(cd -- "$dir" && pwd)
        if stop; then
            printf 'certmilld of %s has stopped\n' "$dir"
        else
            printf 'no certmilld of %s is running\n' "$dir"
        fi
        return
    fi
    build
    prepare
    start_or_keep
    enroll
    finish
}

dir=certmill-demo port="" admin_port="" install=yes restart=no log="" module=""

main "$@"
