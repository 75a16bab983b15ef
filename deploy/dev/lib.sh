# shellcheck shell=bash
# What every script here shares: places, messages, steps with visible progress.
# Sourced, never run. Sets nothing up by itself.

# shellcheck disable=SC2034 # the scripts that source this use what is set here

set -euo pipefail

FLOTILLA_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
FLOTILLA_CACHE="${FLOTILLA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/flotilla}"
FLOTILLA_LOGS="$FLOTILLA_CACHE/logs"
TARGET_DIR="${CARGO_TARGET_DIR:-$FLOTILLA_ROOT/target}"
[[ $TARGET_DIR == /* ]] || TARGET_DIR="$FLOTILLA_ROOT/$TARGET_DIR"
mkdir -p "$FLOTILLA_LOGS"

# One log per script run; the steps append to it and a failure names it.
LOG="$FLOTILLA_LOGS/${LOG_NAME:-setup}.log"

MINISTACK_VERSION=1.5.33
MINISTACK_VENV="$FLOTILLA_CACHE/ministack-$MINISTACK_VERSION"
NEXTEST_VERSION=0.9.143
CARGO_DENY_VERSION=0.20.2
CARGO_DENY_ROOT="$FLOTILLA_CACHE/cargo-deny-$CARGO_DENY_VERSION"
PROMETHEUS_DIR="$FLOTILLA_CACHE/prometheus"
BASE_IMAGE=debian:bookworm-slim
BASE_SUITE=bookworm
SANDBOX_IMAGE=flotilla-python3
BUILDER_IMAGE=flotilla-python3-build
RUST_BUILDER_IMAGE=flotilla-rust-build

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }

# die MESSAGE…: one line each, then exit 1.
die() {
  printf 'error: %s\n' "$1" >&2
  shift
  local line
  for line in "$@"; do printf '       %s\n' "$line" >&2; done
  exit 1
}

# What the set-up of the tests unpacked; what is installed comes first.
export PATH="$PATH:$PROMETHEUS_DIR/usr/bin"

have() { command -v "$1" >/dev/null 2>&1; }

# at_least HAVE WANT: true when dotted version HAVE >= WANT.
at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

as_root() {
  if ((EUID == 0)); then "$@"; else sudo -- "$@"; fi
}

done_step() { printf '  ok  %s\n' "$*"; }

# The last thing the log says, short enough for one line of a terminal.
last_line() {
  tail -c 600 "$LOG" 2>/dev/null | tr '\r' '\n' | sed 's/\x1b\[[0-9;]*[A-Za-z]//g' |
    awk 'NF { line = $0 } END { print substr(line, 1, 70) }'
}

# tick TITLE: shows that TITLE is still going on, until killed. A terminal gets
# a moving line; a pipe gets a plain line every ten seconds.
tick() {
  local title=$1 start=$SECONDS spin='|/-+' i=0 now
  while :; do
    sleep 0.5 >/dev/null 2>&1
    now=$((SECONDS - start)) i=$((i + 1))
    if [[ -t 1 ]]; then
      printf '\r\033[K  %s   %s (%d s) %s' "${spin:i%4:1}" "$title" "$now" "$(last_line)"
    elif ((i % 20 == 0)); then
      printf '  ..  %s (%d s) %s\n' "$title" "$now" "$(last_line)"
    fi
  done
}

TICKER=
stop_ticker() {
  [[ -n $TICKER ]] || return 0
  kill "$TICKER" 2>/dev/null || true
  wait "$TICKER" 2>/dev/null || true
  TICKER=
  [[ ! -t 1 ]] || printf '\r\033[K'
}
trap stop_ticker EXIT

# step TITLE COMMAND…: runs COMMAND (a function or a program) with its output in
# the log, shows progress, and ends the script with the log's end if it fails.
# Not to be called inside a condition: bash would then ignore errors within.
step() {
  local title=$1 start=$SECONDS rc
  shift
  printf '\n== %s: %s\n' "$(date -u +%FT%TZ)" "$title" >>"$LOG"
  [[ -t 1 ]] || printf '  ..  %s\n' "$title"
  tick "$title" &
  TICKER=$!
  set +e
  (
    set -e
    trap - EXIT
    "$@"
  ) >>"$LOG" 2>&1 </dev/null
  rc=$?
  set -e
  stop_ticker
  if ((rc != 0)); then
    printf ' FAIL %s (exit %d). The end of its log:\n' "$title" "$rc" >&2
    tail -n 20 "$LOG" | sed 's/^/      | /' >&2
    die "$title failed" "the whole log: $LOG"
  fi
  done_step "$title ($((SECONDS - start)) s)"
}

# exclusively COMMAND…: one at a time on this machine. Two set-ups at once would
# build the same image twice and trip over each other's venv.
exclusively() {
  exec 9>"$FLOTILLA_CACHE/setup.lock"
  if ! flock -n 9; then
    say "  ..  another set-up is running; waiting for it (15 minutes at most)"
    flock -w 900 9 || die "another set-up still holds $FLOTILLA_CACHE/setup.lock"
  fi
  "$@"
  exec 9>&-
}

# find_cargo: puts cargo on PATH where it is installed but not on it, as under
# sudo, which drops the caller's PATH.
find_cargo() {
  ! have cargo || return 0
  local home
  for home in "$HOME" "$(getent passwd "${SUDO_USER:-root}" | cut -d: -f6)"; do
    [[ -x $home/.cargo/bin/cargo ]] || continue
    export PATH="$home/.cargo/bin:$PATH" CARGO_HOME="${CARGO_HOME:-$home/.cargo}"
    export RUSTUP_HOME="${RUSTUP_HOME:-$home/.rustup}"
    return 0
  done
}
find_cargo
