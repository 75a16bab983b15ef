# shellcheck shell=bash
# moto: EC2 and RDS for the scheduler's tests, in a venv of its own. Each test has one of its own: it
# asks for it at the socket that FLOTILLA_MOTO names (see moto-forks).

MOTO_VERSION=5.2.5
MOTO_VENV="$FLOTILLA_CACHE/moto-$MOTO_VERSION"
moto_pid=''

setup_moto() {
  if [[ ! -e $MOTO_VENV/.complete ]]; then
    local python
    have python3 || apt_install python3
    python=$(python_at_least 3.10 python3 python3.13 python3.12 python3.11) ||
      die "moto needs Python >= 3.10; here is $(python3 --version)" "install a newer python3"
    "$python" -c 'import ensurepip' 2>/dev/null || apt_install python3-venv
    step "moto $MOTO_VERSION (pip, about a minute)" make_venv "$python" "$MOTO_VENV" \
      "moto[server,ec2,rds,resourcegroupstaggingapi]==$MOTO_VERSION"
  fi
  done_step "moto $MOTO_VERSION"
}

# start_moto: beside the endpoint. Until a test asks for one it is a Python that waits.
start_moto() {
  # shellcheck disable=SC2154 # endpoint.sh has made the directory
  (exec setsid setpriv --pdeathsig TERM "$MOTO_VENV/bin/python" \
    "$FLOTILLA_ROOT/deploy/dev/moto-forks" "$endpoint_dir/moto") \
    >>"$ENDPOINT_LOG" 2>&1 </dev/null 9>&- &
  moto_pid=$!
}

# stop_moto: with what it was forked to.
stop_moto() {
  [[ -n $moto_pid ]] || return 0
  kill -KILL -- "-$moto_pid" 2>/dev/null || true
  wait "$moto_pid" 2>/dev/null || true
  moto_pid=
}
