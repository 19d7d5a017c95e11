# shellcheck shell=bash
# Common to scripts/demo and scripts/test: packages, build, a private PostgreSQL tree, servers.
#
# Decides where things lie and under which user servers run.  It must never touch a PostgreSQL
# cluster or a PostgreSQL directory that it did not make itself: pg_ha is not installed into the
# system, but into a private tree beside the data (see stage_postgres), so no root is needed for it
# and an installed pg_ha stays as it is.

set -euo pipefail

# shellcheck disable=SC2034  # the scripts that source this use these
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
pg_version=15
pg_bindir=/usr/lib/postgresql/$pg_version/bin
build=${BUILD:-$root/build}
logs=$build/log

packages=(
    g++ make cmake ninja-build perl
    "postgresql-$pg_version" "postgresql-server-dev-$pg_version" libpq-dev
    iproute2 libboost-dev libboost-program-options-dev libssl-dev libprotobuf-dev protobuf-compiler libgtest-dev libbenchmark-dev
)

say() { printf '%s\n' "$@"; }
die() {
    local status=$1
    shift
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit "$status"
}
now_ms() { date +%s%3N; }

# ---- users ----------------------------------------------------------------------------------------

# PostgreSQL refuses to run as root; root therefore runs servers as the user of the Debian package.
server_user() {
    if [ "$(id -u)" = 0 ]; then echo postgres; else id -un; fi
}

# Replaces this shell's child by the command, under the server's user.  setpriv, unlike runuser and
# su, does not stay in between, so that $! is the postmaster itself.
exec_as_server() {
    if [ "$(id -u)" = 0 ]; then
        exec setpriv --reuid=postgres --regid=postgres --init-groups -- \
            env -u XDG_RUNTIME_DIR HOME=/var/lib/postgresql USER=postgres LOGNAME=postgres "$@"
    fi
    exec "$@"
}
as_server() { (exec_as_server "$@"); }

# ---- packages -------------------------------------------------------------------------------------

installed() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q '^install ok installed$'; }

missing_packages() {
    local package
    for package in "${packages[@]}"; do
        installed "$package" || printf '%s\n' "$package"
    done
}

# Debian creates and starts a cluster "main" when the server package is first installed.  Nobody
# asked for that one, so it is switched off for the duration of the installation.
install_server_quietly() {
    local conf=/etc/postgresql-common/createcluster.conf line='create_main_cluster = false # pg_ha: while installing'
    apt_install postgresql-common
    printf '%s\n' "$line" >>"$conf"
    local status=0
    apt_install "$@" || status=$?
    sed -i "\\|# pg_ha: while installing\$|d" "$conf"
    return "$status"
}

apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" \
        </dev/null >>"$logs/apt.log" 2>&1
}

need_packages() {
    command -v dpkg-query >/dev/null || die 2 "this script knows Debian only; see README.md for what to install"
    local missing
    mapfile -t missing < <(missing_packages)
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ]; then
        printf '%s\n' "${0##*/}: these packages are missing: ${missing[*]}" \
            "Install them as root, then run this again:" \
            "    apt-get update && apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 2
    fi
    mkdir -p "$logs"
    : >"$logs/apt.log"
    say "      installing ${#missing[@]} packages: ${missing[*]}"
    if ! apt-get update -q >>"$logs/apt.log" 2>&1; then
        show_log "$logs/apt.log"
        die 2 "apt-get update failed"
    fi
    local install=apt_install
    installed "postgresql-$pg_version" || install=install_server_quietly
    if ! "$install" "${missing[@]}"; then
        show_log "$logs/apt.log"
        die 2 "could not install the packages"
    fi
}

show_log() {
    say "----- last lines of $1" >&2
    tail -n "${2:-40}" "$1" >&2
    say "-----" >&2
}

# ---- build ----------------------------------------------------------------------------------------

jobs_for_build() {
    # About 1 GB per compiler; the Boost and protobuf files are the hungry ones.
    local cores memory
    cores=$(nproc)
    memory=$(awk '/MemAvailable/ {print int($2 / 1000000)}' /proc/meminfo)
    [ "$memory" -ge 1 ] || memory=1
    echo $((cores < memory ? cores : memory))
}

# run_logged NAME COMMAND...: output goes to a log file, shown when the command fails.
run_logged() {
    local name=$1 status=0
    shift
    mkdir -p "$logs"
    "$@" >"$logs/$name.log" 2>&1 || status=$?
    [ "$status" = 0 ] || show_log "$logs/$name.log"
    return "$status"
}

# build_targets TARGET...: CMake targets, then the server module.
build_targets() {
    run_logged cmake cmake -S "$root" -B "$build" -G Ninja &&
        run_logged build cmake --build "$build" -j "$(jobs_for_build)" --target "$@" &&
        run_logged module make -C "$root" BUILD="$build" PG_CONFIG="$pg_bindir/pg_config" -j "$(jobs_for_build)"
}

# ---- a private PostgreSQL tree --------------------------------------------------------------------

# stage_postgres DIR [MODULE]: PostgreSQL's own files by symbolic link, pg_ha's files by copy.  Programs that
# look for their companions by their own path (postgres, initdb, pg_ctl, pg_basebackup) are copied:
# PostgreSQL finds its library and share directories relative to the program that runs, so
# CREATE EXTENSION and $libdir work here as they do in an installation.
stage_postgres() {
    local stage=$1 module=${2:-$root/pg_ha.so} lib share program
    lib=$("$pg_bindir/pg_config" --pkglibdir)
    share=$("$pg_bindir/pg_config" --sharedir)
    rm -rf "$stage"
    mkdir -p "$stage$pg_bindir" "$stage$lib" "$stage$share/extension"
    for program in postgres initdb pg_ctl pg_basebackup; do
        cp "$pg_bindir/$program" "$stage$pg_bindir/"
    done
    link_missing "$pg_bindir" "$stage$pg_bindir"
    cp "$module" "$stage$lib/"
    cp "$build/pg_ha_rejoin" "$stage$pg_bindir/"
    link_missing "$lib" "$stage$lib"
    cp "$root/pg_ha.control" "$root"/pg_ha--*.sql "$stage$share/extension/"
    link_missing "$share/extension" "$stage$share/extension"
    link_missing "$share" "$stage$share"
    if [ -x "$build/ledger" ]; then cp "$build/ledger" "$stage$pg_bindir/pg_ha_ledger"; fi
    if [ -x "$build/pg_hactl" ]; then cp "$build/pg_hactl" "$stage$pg_bindir/"; fi
    if [ -e "$build/slow_flush.so" ]; then cp "$build/slow_flush.so" "$stage$lib/"; fi
    chmod -R a+rX "$stage"
}

link_missing() {
    local from=$1 to=$2 file
    for file in "$from"/*; do
        [ -e "$to/${file##*/}" ] || ln -s "$file" "$to/"
    done
}

# work_directory DIR: make it, or accept one that an earlier run made; never take over anything else.
work_directory() {
    local dir=$1
    if [ -e "$dir" ] || [ -L "$dir" ]; then
        if [ ! -d "$dir" ] || [ -L "$dir" ] || [ ! -O "$dir" ] || [ ! -e "$dir/.pg_ha_scratch" ]; then
            die 2 "$dir exists and was not made by this script; choose another with --dir"
        fi
    else
        mkdir -m 0755 "$dir" || die 2 "cannot make $dir"
        : >"$dir/.pg_ha_scratch"
    fi
    # Data directories are made by the server's user inside.
    [ "$(id -u)" != 0 ] || chown root:postgres "$dir"
    chmod 1775 "$dir"
}

# ---- servers --------------------------------------------------------------------------------------

# Process id of the postmaster that runs in data directory $1, if it is alive and really ours: the
# postmaster's working directory is its data directory.
postmaster_of() {
    local data=$1 pid
    [ -r "$data/postmaster.pid" ] || as_server test -r "$data/postmaster.pid" || return 1
    pid=$(as_server head -n 1 "$data/postmaster.pid" 2>/dev/null) || return 1
    [[ $pid =~ ^[0-9]+$ ]] || return 1
    [ "$(as_server readlink "/proc/$pid/cwd" 2>/dev/null)" = "$(readlink -f "$data")" ] || return 1
    echo "$pid"
}

# Stop what runs in a data directory: fast, then immediate, then SIGKILL.
stop_server() {
    local data=$1 pid signal tries
    for signal in INT QUIT KILL; do
        pid=$(postmaster_of "$data") || return 0
        kill -"$signal" "$pid" 2>/dev/null || return 0
        kill -CONT "$pid" 2>/dev/null || true
        for ((tries = 0; tries < 100; tries++)); do
            postmaster_of "$data" >/dev/null || return 0
            sleep 0.1
        done
    done
}

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
