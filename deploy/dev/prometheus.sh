# shellcheck shell=bash
# Prometheus and promtool for the tests, from Debian's package. It is unpacked
# and not installed: an installed one would start a service of its own.

setup_prometheus() {
  if ! have prometheus || ! have promtool; then
    step "Prometheus (Debian's package, unpacked)" unpack_prometheus
  fi
  done_step "$(prometheus --version 2>&1 | awk 'NR == 1 { print $1, $3 }' | tr -d ,)"
}

unpack_prometheus() {
  apt_knows prometheus || apt_update
  local work
  work=$(mktemp -d)
  # As _apt it could not write to a folder of ours.
  (cd "$work" && apt-get -o APT::Sandbox::User=root download prometheus)
  rm -rf "$PROMETHEUS_DIR"
  mkdir -p "$PROMETHEUS_DIR"
  dpkg-deb -x "$work"/prometheus_*.deb "$PROMETHEUS_DIR"
  rm -rf "$work"
  prometheus --version
}
