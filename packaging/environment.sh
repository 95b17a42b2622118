# Makes this checkout's virtual environment from a hashed lock. Sourced by ./homeport and ./dev, with $root set.
# Everything it says goes to stderr, so that `eval "$(./homeport env)"` works at the first start too.

venv="${HOMEPORT_VENV:-$root/.venv}"

say() { printf 'homeport: %s\n' "$*" >&2; }

# may_install: whether Debian packages may be installed here: root, apt-get, and not forbidden by HOMEPORT_NO_INSTALL=1.
may_install() { [ "$(id -u)" = 0 ] && [ -z "${HOMEPORT_NO_INSTALL:-}" ] && command -v apt-get >/dev/null; }

# find_python: the first Python 3.11 or later that can make virtual environments, in $python.
find_python() {
    local candidate
    for candidate in "${HOMEPORT_PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            python="$candidate"
            return 0
        fi
    done
    return 1
}

need_python() {
    find_python && return 0
    if may_install; then
        say "installing Debian's python3-venv ..."
        apt-get update -q >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends python3 python3-venv >&2
        find_python && return 0
    fi
    say "Python 3.11 or later with its venv module is missing. Install it with: sudo apt-get install python3-venv"
    return 1
}

# stamp LOCK: what marks the environment as made from LOCK.
stamp() { sha256sum <"$root/$1"; }

# build_environment LOCK...: installs the first lock; marks the environment with every lock named (a later one is contained in the first).
build_environment() {
    local lock
    mkdir -p "$(dirname "$venv")"
    exec 9>"$venv.lock"
    flock 9
    if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
        need_python || return 1
        say "making the Python environment in $venv ..."
        "$python" -m venv --clear "$venv" || {
            say "the environment could not be made in $venv; HOMEPORT_VENV=DIR puts it elsewhere"
            return 1
        }
    fi
    if [ "$(cat "$venv/.$1" 2>/dev/null)" != "$(stamp "$1")" ]; then # another call may have been first
        say "installing Python packages from $1 (about half a minute) ..."
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$root/$1" >&2 || {
            say "the packages could not be installed: pip must reach a package index (its own words are above); then type the same again"
            return 1
        }
        for lock in "$@"; do stamp "$lock" >"$venv/.$lock"; done
        say "the Python environment is ready"
    fi
    exec 9>&-
}

# need_environment LOCK...: the environment has the first lock's packages when this returns.
need_environment() {
    if [ -x "$venv/bin/python" ] && [ -r "$venv/.$1" ] && [ "$(<"$venv/.$1")" = "$(stamp "$1")" ]; then return 0; fi
    build_environment "$@"
}
