# Shared by the scripts: where builds go, and installing what is missing.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

sira_cache="${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/sira"
export CARGO_TARGET_DIR="${SIRA_TARGET_DIR:-$sira_cache/target}"
tools_dir="${SIRA_TOOLS_DIR:-$sira_cache/tools}"
export PATH="$PATH:${CARGO_HOME:-${HOME:-/tmp}/.cargo}/bin"

say() { printf '%s\n' "$*"; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# need COMMAND PACKAGE: makes sure that the command is there, by apt-get where that is possible.
need() {
    have "$1" && return
    if have apt-get && [ "$(id -u)" = 0 ]; then
        say "installing $2, for $1"
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$2" >/dev/null 2>&1 ||
            { apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$2" >/dev/null; } ||
            die "cannot install $2; install it by hand, then run this again"
        # A server that the package starts is nobody's wish here.
        [ "$2" != redis-server ] || ! have service || service redis-server stop >/dev/null 2>&1 || true
        have "$1" || die "$2 is installed, but $1 is still missing"
    else
        die "$1 is missing: install it (on Debian: sudo apt-get install $2), then run this again"
    fi
}

# need_library FILE PACKAGE: makes sure that a library is there, by apt-get where that is possible.
need_library() {
    find /usr/lib /usr/local/lib -name "$1" -print -quit 2>/dev/null | grep -q . && return
    if have apt-get && [ "$(id -u)" = 0 ]; then
        say "installing $2, for $1"
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$2" >/dev/null 2>&1 ||
            { apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -q "$2" >/dev/null; } ||
            die "cannot install $2; install it by hand, then run this again"
    else
        die "$1 is missing: install it (on Debian: sudo apt-get install $2), then run this again"
    fi
}

# Cargo's flags for every driver of an outside engine, and what building them takes.
need_backends() {
    need protoc protobuf-compiler
    # Debian's RocksDB links in seconds; building one takes a quarter of an hour.
    if [ -z "${ROCKSDB_LIB_DIR:-}" ]; then
        need_library librocksdb.so librocksdb-dev
        # libclang-cpp is another library.
        need_library 'libclang[.-][0-9s]*' libclang-dev
        local library
        library="$(find /usr/lib /usr/local/lib -name librocksdb.so -print -quit 2>/dev/null)"
        export ROCKSDB_LIB_DIR="${library%/*}"
    fi
    backends=(--features sira-backends/all,sira-backends/rocksdb)
}

need_rust() {
    have cargo || die "cargo is missing: install Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or later from https://rustup.rs, then run this again"
    need cc gcc
}

# need_component NAME COMMAND: makes sure that a part of the Rust toolchain is there.
need_component() {
    cargo "$2" --version >/dev/null 2>&1 && return
    have rustup || die "cargo $2 is missing: install the $1 component of your Rust toolchain"
    rustup component add "$1"
}
