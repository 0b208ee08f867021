# What the services share: ports, processes, installing, the tests' variables.
# shellcheck shell=bash
#
# scripts/services.d/NAME describes one service by functions:
#   packages   prints the packages of the system that it lacks
#   install    puts the rest into $services_dir/install, unless it is there
#   start      launches what does not run yet
#   ready      succeeds when it answers
#   setup      makes users, databases, buckets; does nothing when they are there
#   address    prints where it listens
#   variables  prints what the tests need, with `variable`
# and by `nodes`, the number of its processes, and `stop_signal`, where these are not 1 and TERM.

# The heaviest to install come first, so that they do not finish last.
services=(minio etcd versitygw gcs otelcol toxiproxy cassandra opensearch mongo azurite
    redis redis-cluster postgres mariadb prometheus)

# The port of each, counted from the base; more than one follow each other.
declare -A first_port=(
    [redis]=0 # without and with TLS
    [redis-cluster]=10 # six nodes, their six cluster buses, the nodes with TLS
    [postgres]=30
    [mariadb]=31
    [mongo]=32
    [etcd]=40 # three for clients, then three for peers
    [cassandra]=50 # clients, other nodes
    [opensearch]=60 # HTTP, other nodes
    [versitygw]=70
    [minio]=71
    [azurite]=72
    [gcs]=73 # without and with TLS
    [toxiproxy]=80
    [otelcol]=81
    [prometheus]=82 # Prometheus, Alertmanager
)

services_dir="${SIRA_SERVICES_DIR:-$sira_cache/services}"
case "$services_dir" in
/*) ;;
*) die "SIRA_SERVICES_DIR must be an absolute path, not \"$services_dir\"" ;;
esac
port_base="${SIRA_SERVICES_PORT_BASE:-$(cat "$services_dir/port-base" 2>/dev/null || echo 17000)}"
[[ $port_base =~ ^[0-9]{4,5}$ && $port_base -ge 1024 && $port_base -le 65400 ]] ||
    die "SIRA_SERVICES_PORT_BASE must be a number from 1024 to 65400, not \"$port_base\""

# Where Debian keeps servers, which is not everybody's path.
export PATH="$PATH:/usr/sbin:/sbin"

is_service() { [ -n "${first_port[$1]:-}" ]; }

# port NAME [NUMBER]
port() { echo $((port_base + first_port[$1] + ${2:-0})); }

# load NAME: the functions of one service; in a subshell, for the next one to start afresh.
load() {
    nodes=1
    stop_signal=TERM
    packages() { :; }
    # shellcheck disable=SC2317 # the file below may leave them so
    install() { :; }
    # shellcheck disable=SC2317
    setup() { :; }
    service="$1"
    # shellcheck disable=SC2034 # for the file below
    data="$services_dir/data/$1"
    started=()
    # shellcheck source=/dev/null
    . "scripts/services.d/$1"
}

# Clusters keep their ports in their data, so a folder has one base, until its data is removed.
claim_port_base() {
    local file="$services_dir/port-base" base
    if [ -s "$file" ]; then
        base=$(cat "$file")
        [ "$base" = "$port_base" ] || die "the services in $services_dir use the ports from $base;" \
            "choose another SIRA_SERVICES_DIR, or remove their data: scripts/services down --clean"
    else
        echo "$port_base" >"$file"
    fi
}

# lock: one `up` or `down` at a time; held until this script ends.
lock() {
    exec 9>"$services_dir/lock"
    flock -n 9 && return
    say "waiting for another scripts/services to finish"
    flock 9
}

now_ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

# seconds MS: with one decimal.
seconds() { printf '%d.%d' $(($1 / 1000)) $(($1 % 1000 / 100)); }

# --- processes

# alive PID: a zombie is not alive, though a signal still reaches it.
alive() {
    local stat
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return
    stat=${stat##*) }
    [[ $stat != [ZX]* ]]
}

# node_id NAME NUMBER: what data folder, log and pid file of a node are called.
node_id() {
    if [ "$nodes" = 1 ]; then echo "$1"; else echo "$1.$2"; fi
}

# birth PID: when it was started, in ticks since the machine was.
birth() {
    local stat
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return
    # shellcheck disable=SC2086 # fields
    set -- ${stat##*) }
    echo "${20}"
}

# pid_of ID: the process of a node while it runs; one that was given the same number later is not it.
pid_of() {
    local pid born
    { read -r pid <"$services_dir/run/$1.pid" && read -r born <"$services_dir/run/$1.born"; } 2>/dev/null || return
    alive "$pid" && [ "$(birth "$pid")" = "$born" ] && echo "$pid"
}

# pids NAME: of the nodes that run.
pids() (
    load "$1"
    for i in $(seq "$nodes"); do
        pid_of "$(node_id "$1" "$i")" || true
    done
)

# running NAME: "all" of its nodes, "none", or "2 of 3".
running() (
    load "$1"
    count=$(pids "$1" | wc -l)
    case "$count" in
    0) echo none ;;
    "$nodes") echo all ;;
    *) echo "$count of $nodes" ;;
    esac
)

# tree PID: it and what came from it.
tree() {
    local child
    echo "$1"
    # shellcheck disable=SC2013 # words, not lines
    for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do
        tree "$child"
    done
}

first_pid() { pids "$1" | head -1; }

# memory_mb NAME: of all its processes, shared pages counted once.
memory_mb() {
    local pid all=()
    for pid in $(pids "$1"); do
        mapfile -t -O "${#all[@]}" all < <(tree "$pid")
    done
    for pid in "${all[@]}"; do
        # What belongs to another account may be closed; then shared pages count for each.
        awk '/^Pss:/ { print $2 }' "/proc/$pid/smaps_rollup" 2>/dev/null ||
            awk '/^VmRSS:/ { print $2 }' "/proc/$pid/status" 2>/dev/null || true
    done | awk '{ sum += $1 } END { if (NR) printf "%.0f", sum / 1024 }'
}

# holder PORT: who listens there, "" when nobody does.
holder() {
    local inode pid
    inode=$(awk -v port="$(printf '%04X' "$1")" \
        '$4 == "0A" && substr($2, length($2) - 3) == port { print $10; exit }' /proc/net/tcp /proc/net/tcp6 2>/dev/null)
    [ -n "$inode" ] || return 0
    pid=$(find /proc/[0-9]*/fd -maxdepth 1 -lname "socket:\[$inode\]" 2>/dev/null | head -1 | cut -d/ -f3)
    if [ -n "$pid" ]; then
        echo "$(tr '\0' '\n' <"/proc/$pid/comm") (pid $pid)"
    else
        echo "a process of another user"
    fi
}

# free PORT...: fails with the holder of one that is taken. One just stopped gets a moment to let go.
free() {
    local number who
    for number in "$@"; do
        for _ in $(seq 12); do
            who=$(holder "$number")
            [ -n "$who" ] || continue 2
            sleep 0.25
        done
        say "port $number is taken by $who; stop it, or choose other ports with SIRA_SERVICES_PORT_BASE" >&2
        return 1
    done
}

# launch NODE "PORT..." COMMAND...: runs a node in its data folder, detached, unless it runs.
launch() {
    local id ports="$2" pid
    id=$(node_id "$service" "$1")
    shift 2
    ! pid_of "$id" >/dev/null || return 0
    # shellcheck disable=SC2086 # a list of ports
    free $ports || return
    mkdir -p "$services_dir/data/$id"
    pid=$(
        cd "$services_dir/data/$id" || exit
        become setsid "$@" </dev/null >"$services_dir/log/$id.log" 2>&1 9>&- &
        echo $!
    ) || return
    echo "$pid" >"$services_dir/run/$id.pid"
    birth "$pid" >"$services_dir/run/$id.born"
    started+=("$id")
}

# become COMMAND...: turns into the command, for root under the service's `account`. That may pass through
# folders that are closed to it, such as root's home.
become() {
    local as=()
    if [ -n "${account:-}" ] && [ "$(id -u)" = 0 ]; then
        as=(setpriv --reuid="$account" --regid="$account" --init-groups)
        (cd / && "${as[@]}" test -x "$data") ||
            as+=(--inh-caps=+dac_read_search --ambient-caps=+dac_read_search)
        as+=(-- env HOME="$data")
    fi
    exec "${as[@]}" "$@"
}

# wait_for CHECK: until it succeeds, or one of the processes just launched ends.
wait_for() {
    local id end=$(($(now_ms) + 180000))
    until "$1" >/dev/null 2>&1; do
        for id in "${started[@]}"; do
            if ! pid_of "$id" >/dev/null; then
                say "$id ended while it started" >&2
                return 1
            fi
        done
        if [ "$(now_ms)" -gt $end ]; then
            say "no answer within 180 s" >&2
            return 1
        fi
        sleep 0.1
    done
}

# stop_all NAME: asks, waits up to 30 s, then kills; also what came from its processes.
stop_all() {
    local pid all=() left=()
    for pid in $(pids "$1"); do
        mapfile -t -O "${#all[@]}" all < <(tree "$pid")
        kill -s "$stop_signal" "$pid" 2>/dev/null || true
    done
    for _ in $(seq 300); do
        left=()
        for pid in "${all[@]}"; do
            ! alive "$pid" || left+=("$pid")
        done
        [ ${#left[@]} -gt 0 ] || break
        sleep 0.1
    done
    if [ ${#left[@]} -gt 0 ]; then
        say "$1 does not stop: killed"
        kill -KILL "${left[@]}" 2>/dev/null || true
    fi
    rm -f "$services_dir/run/$1".{pid,born} "$services_dir/run/$1".*.{pid,born}
}

# interrupt PID...: ends installations under way, and what was being started.
interrupt() {
    local job
    trap '' INT TERM # a second one must not stop the cleaning
    for job in "$@"; do
        # shellcheck disable=SC2046 # one number a line
        kill $(tree "$job") 2>/dev/null || true
    done
    die "interrupted"
}

report_failure() {
    local file
    {
        printf '\n%s was not started:\n' "$1"
        for file in "$services_dir/log/$1.up" "$services_dir/log/$1.log" "$services_dir/log/$1".*.log; do
            [ -s "$file" ] || continue
            printf -- '--- the end of %s\n' "$file"
            tail -n 15 "$file"
        done
    } >&2
}

# --- installing

build_cache="$services_dir/install/cache"

# Compilers and package managers keep gigabytes that nothing here needs again.
forget_caches() { rm -rf "$build_cache"; }

# lacks COMMAND PACKAGE: prints the package where the command is missing.
lacks() { have "$1" || echo "$2"; }

installed() { [ -d "$services_dir/install/$1-$2" ]; }

# install_packages NAME...: what the services lack, in one go, by the system's package manager.
install_packages() {
    local name list=() root=() policy=/usr/sbin/policy-rc.d unit
    mapfile -t list < <(
        lacks curl curl
        lacks flock util-linux
        lacks openssl openssl
        for name in "$@"; do
            (load "$name" && packages)
        done | sort -u
    )
    [ ${#list[@]} -gt 0 ] || return 0
    have apt-get || die "install these, then run this again: ${list[*]}"
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null ||
            die "these must be installed first: sudo apt-get install ${list[*]}"
        root=(sudo -n)
    fi
    say "installing ${list[*]}"
    # The packages' own servers are nobody's wish here: not now, and not after the next boot.
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
        "${root[@]}" chmod +x "$policy"
    else
        policy=
    fi
    local status=0 apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300
        -o Dpkg::Use-Pty=0)
    { "${root[@]}" "${apt[@]}" update &&
        "${root[@]}" "${apt[@]}" install -y --no-install-recommends "${list[@]}"; } \
        >"$services_dir/log/packages.log" 2>&1 || status=$?
    [ -z "$policy" ] || "${root[@]}" rm -f "$policy"
    if [ -d /run/systemd/system ]; then
        for unit in redis-server postgresql mariadb prometheus prometheus-alertmanager; do
            [[ " ${list[*]} " != *" $unit"* ]] ||
                "${root[@]}" systemctl disable --now "$unit" >/dev/null 2>&1 || true
        done
    fi
    [ $status = 0 ] || {
        tail -n 15 "$services_dir/log/packages.log" >&2
        die "apt-get cannot install ${list[*]}"
    }
}

# fresh NAME VERSION COMMAND...: runs the command, which fills the folder $into; it becomes
# install/NAME-VERSION when the command succeeds, and older versions go. Does nothing when it is there.
fresh() {
    local name="$1" target="$services_dir/install/$1-$2" old
    ! installed "$1" "$2" || return 0
    say "installing $1 $2"
    shift 2
    into="$target.part"
    rm -rf "$into"
    mkdir -p "$into" "$build_cache"
    "$@" >&2 || return
    for old in "$services_dir/install/$name"-[0-9]*; do
        [ "$old" = "$into" ] || rm -rf "$old"
    done
    mv "$into" "$target"
}

# slot COMMAND...: at most two compilations at once, as each of them uses all cores and much memory.
slot() {
    local number=1 status=0
    exec 8>"$services_dir/run/slot.1"
    until flock -n 8; do
        sleep 0.3
        number=$((3 - number))
        exec 8>"$services_dir/run/slot.$number"
    done
    "$@" 8>&- || status=$?
    exec 8>&-
    return $status
}

go_version=1.26.8

# lacks_go NAME VERSION: the package with a Go that can at least fetch modules, unless it is built already.
lacks_go() {
    installed "$1" "$2" || have go || [ -x /usr/local/go/bin/go ] || echo golang-go
}

# need_go: a Go that is new enough, where the system's is not, as the module that Go itself is published as.
need_go() {
    local found
    have go || PATH="/usr/local/go/bin:$PATH"
    export GOPATH="$build_cache/gopath" GOMODCACHE="$build_cache/gomod" GOCACHE="$build_cache/gobuild" \
        GOWORK=off GOTOOLCHAIN=local CGO_ENABLED=0
    # Nobody debugs these; without debug information they are built sooner.
    export GOFLAGS="-modcacherw -buildvcs=false -trimpath -gcflags=all=-dwarf=false -ldflags=-s"
    mkdir -p "$build_cache"
    found=$(go version | sed -n 's/^go version go\([0-9.]*\).*/\1/p')
    if [ "$(printf '%s\n' "$go_version" "$found" | sort -V | head -1)" != "$go_version" ]; then
        (flock 7 && go_toolchain) 7>"$services_dir/run/go.lock" || return
        unset GOROOT
        PATH="$build_cache/go-$go_version/bin:$PATH"
    fi
}

go_toolchain() {
    local target="$build_cache/go-$go_version" module
    [ ! -d "$target" ] || return 0
    module="golang.org/toolchain@v0.0.1-go$go_version.linux-$(go env GOARCH)"
    mkdir -p "$target.part" && echo 'module toolchain' >"$target.part/go.mod" &&
        (cd "$target.part" && go mod download "$module") >&2 &&
        chmod +x "$GOMODCACHE/$module"/bin/* "$GOMODCACHE/$module"/pkg/tool/*/* &&
        mv "$GOMODCACHE/$module" "$target"
}

# go_program PACKAGE@VERSION [NAME]: builds a program into $into.
go_program() {
    need_go || return
    GOBIN="$into/build" slot go install "$1" || return
    local built=("$into"/build/*)
    mv "${built[0]}" "$into/${2:-$(basename "${built[0]}")}" && rmdir "$into/build"
}

# lacks_java NAME VERSION: the packages of a JDK 17, and of Maven unless the jars are there.
lacks_java() {
    [ -n "$(jdk)" ] || echo openjdk-17-jdk-headless
    installed "$1" "$2" || lacks mvn maven
}

# jdk: the folder of the JDK 17, which Cassandra needs to the number.
jdk() {
    local folder
    for folder in "${JAVA_HOME:-}" /usr/lib/jvm/java-17-* /usr/lib/jvm/*-17-*; do
        if [ -x "$folder/bin/javac" ] && grep -qs '^JAVA_VERSION="17' "$folder/release"; then
            echo "$folder"
            return
        fi
    done
}

# java_program POM [SOURCE]: the jars of a POM into $into/lib, and a class of ours into $into/classes.
java_program() {
    local home
    home=$(jdk)
    JAVA_HOME="$home" mvn -q -B -Dstyle.color=never -Dmaven.repo.local="$build_cache/maven-$service" \
        -f "$PWD/scripts/services.d/$1" \
        org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$into/lib" || return
    [ -z "${2:-}" ] || "$home/bin/javac" -proc:none -d "$into/classes" -cp "$into/lib/*" "scripts/services.d/$2"
}

# --- certificates

tls_dir="$services_dir/tls"

# certificates: of an authority "ca", of a "server" at the address of the services, of a "client";
# and of a "stranger", an authority that signs none of them. They last for ten years.
certificates() {
    local part="$tls_dir.part"
    [ ! -d "$tls_dir" ] || return 0
    rm -rf "$part" && mkdir -p "$part" || return
    (
        cd "$part" &&
            authority ca 'Test authority of Sira' && authority stranger 'Another authority' &&
            certificate server DNS:localhost,IP:127.0.0.1 serverAuth,clientAuth &&
            certificate client DNS:client.invalid clientAuth
    ) >"$services_dir/log/tls.log" 2>&1 || {
        tail -n 15 "$services_dir/log/tls.log" >&2
        return 1
    }
    mv "$part" "$tls_dir"
}

# new_key NAME
new_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"; }

# authority NAME TITLE
authority() {
    new_key "$1" && openssl req -x509 -new -key "$1.key" -sha256 -days 3650 -subj "/CN=$2" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
        -out "$1.pem"
}

# certificate NAME ALTERNATIVE_NAMES USE
certificate() {
    new_key "$1" && openssl req -new -key "$1.key" -subj "/CN=$1" -out "$1.csr" &&
        printf '%s\n' "subjectAltName=$2" "extendedKeyUsage=$3" basicConstraints=CA:FALSE >"$1.ext" &&
        openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -sha256 -days 3650 \
            -extfile "$1.ext" -out "$1.pem"
}

# own_certificates: into the data folder, for servers that insist on being their key's owner.
own_certificates() {
    mkdir -p "$data" && cp "$tls_dir"/{ca.pem,server.pem,server.key} "$data" &&
        chmod 600 "$data/server.key" || return
    [ "$(id -u)" != 0 ] || chown "$account:" "$data"/{ca.pem,server.pem,server.key}
}

# --- the tests' variables

variable() { printf "export %s='%s'\n" "$1" "$2"; }

# print_env NAME...: of those that run.
print_env() {
    local name
    [ ! -d "$tls_dir" ] || variable SIRA_TEST_TLS_FOLDER "$tls_dir"
    for name in "$@"; do
        [ "$(running "$name")" != all ] || (load "$name" && variables)
    done
}

write_env() {
    print_env "${services[@]}" >"$services_dir/env.part"
    mv "$services_dir/env.part" "$services_dir/env"
}

# --- S3, which two of them speak; with `key_id` and `secret`

# s3 METHOD URL: one signed request without a body.
s3() {
    local of_nothing=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    # shellcheck disable=SC2154 # the service's
    curl -fsS -m 10 -o /dev/null -X "$1" --aws-sigv4 aws:amz:us-east-1:s3 --user "$key_id:$secret" \
        -H "x-amz-content-sha256: $of_nothing" "http://$2"
}

# s3_bucket ADDRESS BUCKET
s3_bucket() { s3 GET "$1/$2" 2>/dev/null || s3 PUT "$1/$2"; }

# s3_variables PREFIX ADDRESS BUCKET
s3_variables() {
    variable "$1_ENDPOINT" "http://$2"
    variable "$1_ACCESS_KEY_ID" "$key_id"
    variable "$1_SECRET_ACCESS_KEY" "$secret"
    variable "$1_REGION" us-east-1
    variable "$1_BUCKET" "$3"
}
