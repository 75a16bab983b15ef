# shellcheck shell=bash
# uv: the second client of the package index, for the tests, in a venv of its own.

UV_VERSION=0.13.9
UV_VENV="$FLOTILLA_CACHE/uv-$UV_VERSION"

setup_uv() {
  if [[ ! -e $UV_VENV/.complete ]]; then
    have python3 || apt_install python3
    python3 -c 'import ensurepip' 2>/dev/null || apt_install python3-venv
    step "uv $UV_VERSION (pip)" make_venv python3 "$UV_VENV" "uv==$UV_VERSION"
  fi
  done_step "uv $UV_VERSION"
}
