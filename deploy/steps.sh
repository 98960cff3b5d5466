# Sourced by quickstart, fetch, tests/run, tests/bench/run, tests/python/setup and .ci/run: how a script speaks, and how it asks for what is missing. Not a program.
# shellcheck shell=bash

say() { printf '%s\n' "$*" >&2; }

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# need COMMAND[|OTHER]:PACKAGE... — every command (or one of its alternatives) is there, or its Debian package is named.
# As root the packages are installed after saying so; anyone else gets the line to run.
need() {
  local pair name missing=()
  for pair in "$@"; do
    local found=
    while IFS= read -r -d '|' name; do
      if command -v "$name" >/dev/null 2>&1; then found=1; fi
    done <<<"${pair%%:*}|"
    if [[ -z $found ]]; then missing+=("${pair##*:}"); fi
  done
  if ((${#missing[@]} > 0)); then install_packages "${missing[@]}"; fi
}

install_packages() {
  local line="apt-get install -y --no-install-recommends $*"
  if ! command -v apt-get >/dev/null 2>&1; then
    die "this machine lacks: $*; install them with its package manager and run this again"
  fi
  if ((EUID != 0)); then
    die "this machine lacks: $*; run \`sudo $line\` and then this again"
  fi
  say "this machine lacks: $*; running as root, so installing them system-wide: $line"
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"; } >&2 ||
    die "\`$line\` failed; install the packages by hand and run this again"
}

# need_ground ROOT [COMMAND:PACKAGE...] — cargo of at least the workspace's rust-version, what building and fetching use, and what else is named.
need_ground() {
  local want have root=$1 && shift
  if ! command -v cargo >/dev/null 2>&1; then
    die "no cargo on PATH; install a Rust toolchain (https://rustup.rs) and run this again"
  fi
  want=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
  have=$(cargo --version | cut -d' ' -f2)
  at_least "$have" "$want" || die "cargo $have is too old, the workspace needs $want; run \`rustup update stable\` and then this again"
  need 'cc:gcc' 'cc:libc6-dev' 'curl:curl' 'curl:ca-certificates' 'unzip|python3:unzip' "$@"
}

# at_least HAVE WANT — version order.
at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }
