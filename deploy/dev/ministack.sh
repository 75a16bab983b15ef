# shellcheck shell=bash
# The local AWS endpoint of the demo and the quick tests, in a venv of its own.

# python_at_least X.Y NAME…: prints the path of the first interpreter of that
# version or later among the names and pyenv's.
python_at_least() {
  local want=$1 python
  shift
  for python in "$@" "$HOME"/.pyenv/versions/*/bin/python3; do
    "$python" -c "import sys; sys.exit(sys.version_info < (${want/./,}))" 2>/dev/null || continue
    "$python" -c 'import sys; print(sys.executable)'
    return 0
  done
  return 1
}

# make_venv PYTHON DIRECTORY PIP-ARGUMENT…: a venv is complete when its marker
# is there; what an interrupted run left is thrown away.
make_venv() {
  local python=$1 venv=$2
  shift 2
  rm -rf "$venv"
  "$python" -m venv "$venv"
  "$venv/bin/pip" install --disable-pip-version-check --progress-bar off "$@"
  touch "$venv/.complete"
}

setup_ministack() {
  if [[ ! -e $MINISTACK_VENV/.complete ]]; then
    local python
    have python3 || apt_install python3
    python=$(python_at_least 3.10 python3 python3.13 python3.12 python3.11) ||
      die "MiniStack needs Python >= 3.10; here is $(python3 --version)" "install a newer python3"
    # Debian's own interpreter ships venv apart.
    "$python" -c 'import ensurepip' 2>/dev/null || apt_install python3-venv
    step "MiniStack $MINISTACK_VERSION (pip)" \
      make_venv "$python" "$MINISTACK_VENV" "ministack==$MINISTACK_VERSION"
  fi
  done_step "MiniStack $MINISTACK_VERSION"
}
