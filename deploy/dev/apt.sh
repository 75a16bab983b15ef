# shellcheck shell=bash
# Debian packages: asked for only when something is missing.

check_system() {
  if ! have apt-get || ! have dpkg-query; then
    die "this is not Debian or Ubuntu (no apt-get), so nothing can be installed here" \
      "install by hand: a Docker engine, Python >= 3.10 with venv, gcc, make," \
      "Rust >= $(rust_version) (https://rustup.rs), cargo-nextest $NEXTEST_VERSION;" \
      "then run: pip install ministack==$MINISTACK_VERSION"
  fi
  [[ $(uname -m) == x86_64 ]] ||
    die "this machine is $(uname -m); the supervisor's system call filter is for x86_64 only"
  ((EUID == 0)) || have sudo || die "run this as root, or install sudo (apt-get install sudo)"
}

installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

apt_get() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -y "$@"
}

# A source of somebody else's that cannot be reached must not stop us: what
# counts is whether the installation that follows succeeds.
apt_update() { apt_get update || echo "apt-get update failed; going on with what is known"; }

# Once per run, and only when something has to be installed at all.
APT_UPDATED=
refresh_apt() {
  [[ -n $APT_UPDATED ]] || step "apt-get update" apt_update
  APT_UPDATED=yes
}

# apt_install PACKAGE…: installs those that are missing.
apt_install() {
  local missing=() package
  for package in "$@"; do installed "$package" || missing+=("$package"); done
  ((${#missing[@]})) || return 0
  refresh_apt
  step "apt-get install ${missing[*]}" apt_get install --no-install-recommends "${missing[@]}"
}

# True when there is a version to install: a name that others merely refer to is
# known to apt as well.
apt_knows() { apt-cache policy "$1" 2>/dev/null | grep -q 'Candidate: [0-9]'; }

# What compiling the workspace and the scripts themselves need.
setup_packages() {
  local packages=()
  have gcc || packages+=(gcc libc6-dev)
  have make || packages+=(make)
  have flock || packages+=(util-linux)
  [[ -e /etc/ssl/certs/ca-certificates.crt ]] || packages+=(ca-certificates)
  ((${#packages[@]} == 0)) || apt_install "${packages[@]}"
  done_step "compiler and tools"
}
