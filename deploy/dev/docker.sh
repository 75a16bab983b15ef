# shellcheck shell=bash
# A Docker engine that answers: the one that is there, else Debian's, started
# by whatever starts services here.

DOCKER_LOG=/var/log/flotilla-dockerd.log

docker_answers() { have docker && timeout 10 docker info >/dev/null 2>&1; }
docker_answers_root() { have docker && as_root timeout 10 docker info >/dev/null 2>&1; }

setup_docker() {
  if ! docker_answers; then
    if [[ -n ${DOCKER_HOST:-} ]]; then
      die "no Docker engine answers at DOCKER_HOST=$DOCKER_HOST" \
        "start it, or unset DOCKER_HOST to have one installed here"
    fi
    docker_answers_root || install_docker
    ((EUID == 0)) || docker_answers || allow_user
    docker_answers || die "the Docker engine does not answer" "log of the set-up: $LOG"
  fi
  done_step "Docker engine $(docker version -f '{{.Server.Version}}') answers"
  check_runc
}

install_docker() {
  have dockerd || apt_install docker.io
  # Newer releases ship the client apart from the engine.
  have docker || apt_install docker-cli
  step "start the Docker engine" start_docker
}

start_docker() {
  if [[ -d /run/systemd/system ]]; then
    as_root systemctl enable --now docker
    await_docker 60
    return
  fi
  drop_stale_pidfile
  if [[ -e /etc/init.d/docker ]] && as_root service docker start && await_docker 30; then
    return
  fi
  # No init that could do it (a container, a bare VM): run it on its own. Its
  # own session, no inherited descriptors, so that it outlives this script and
  # holds no lock or pipe of ours.
  echo "starting dockerd without a service manager; its log: $DOCKER_LOG"
  # shellcheck disable=SC2016 # $0 is for the inner shell
  as_root setsid -f sh -c 'exec dockerd >>"$0" 2>&1 </dev/null 9>&-' "$DOCKER_LOG"
  await_docker 60 || { tail -n 20 "$DOCKER_LOG"; return 1; }
}

# After a crash or a restart without init the file names a dead process, or by
# chance a living one of another kind; dockerd would refuse to start.
drop_stale_pidfile() {
  local pid
  pid=$(cat /var/run/docker.pid 2>/dev/null) || return 0
  [[ $(cat "/proc/$pid/comm" 2>/dev/null) == dockerd ]] || as_root rm -f /var/run/docker.pid
}

# await_docker SECONDS
await_docker() {
  local deadline=$((SECONDS + $1))
  until docker_answers_root; do
    ((SECONDS < deadline)) || { echo "no answer from the engine within $1 s"; return 1; }
    sleep 0.3
  done
}

# Not root: membership in the group is what lasts, but it counts only from the
# next login; the access list on the socket bridges this session.
allow_user() {
  apt_install acl
  ! getent group docker >/dev/null || as_root usermod -aG docker "$(id -un)"
  as_root setfacl -m "u:$(id -un):rw" /var/run/docker.sock
  warn "$(id -un) was added to the group docker, which is as powerful as root"
}

# 1.1.12 is the first without the leaked working directory (CVE-2024-21626).
# Distributions also patch older ones, hence a warning and no more.
check_runc() {
  local version
  version=$(runc --version 2>/dev/null | awk 'NR == 1 { print $3 }') || true
  version=${version%%[~+]*}
  if [[ -n $version ]] && ! at_least "$version" 1.1.12; then
    warn "runc $version is older than 1.1.12 (CVE-2024-21626); cells use a fixed working directory, but update it where you can"
  fi
}
