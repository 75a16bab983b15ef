# shellcheck shell=bash
# The Rust toolchain and the test runner.

rust_version() { sed -n 's/^rust-version = "\(.*\)"/\1/p' "$FLOTILLA_ROOT/Cargo.toml"; }

setup_rust() {
  local want got
  want=$(rust_version)
  have cargo || install_rust
  got=$(cd "$FLOTILLA_ROOT" && cargo --version | awk '{ print $2 }')
  at_least "$got" "$want" ||
    die "Rust $got is too old: $want or later is needed" "with rustup: rustup update stable"
  done_step "Rust $got"
}

# Debian 13 and Ubuntu 24.04 package rustup; before them there is only a
# compiler too old for this workspace.
install_rust() {
  refresh_apt
  apt_knows rustup || die "no Rust toolchain: cargo is not installed" \
    "install it from https://rustup.rs (Rust $(rust_version) or later), then run this again"
  apt_install rustup
  step "Rust toolchain (rustup default stable)" rustup default stable
  export PATH="$HOME/.cargo/bin:$PATH"
}

# Only the tests need it, so only they pay for compiling it.
setup_nextest() {
  if ! have cargo-nextest; then
    step "cargo-nextest $NEXTEST_VERSION (compiled from source, some minutes)" \
      cargo install cargo-nextest --locked --version "$NEXTEST_VERSION"
  fi
  done_step "$(cargo nextest --version | head -n 1)"
}
