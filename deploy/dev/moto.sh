# shellcheck shell=bash
# moto: EC2 and RDS for the scheduler's tests, in a venv of its own. The tests start it themselves,
# one for each, from FLOTILLA_MOTO.

MOTO_VERSION=5.2.5
MOTO_VENV="$FLOTILLA_CACHE/moto-$MOTO_VERSION"

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
