# shellcheck shell=bash
# Start, watch and stop a local AWS endpoint. For with-endpoint.

ENDPOINT_LOG="${FLOTILLA_ENDPOINT_LOG:-$FLOTILLA_LOGS/endpoint-$$.log}"
endpoint_port='' endpoint_pid='' endpoint_dir='' endpoint_container=''

free_port() {
  "$MINISTACK_VENV/bin/python" -c \
    'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# sweep: the state of runs that were killed outright, and last week's logs.
sweep() {
  local directory owner
  for directory in "${TMPDIR:-/tmp}"/flotilla-endpoint-*.*; do
    owner=${directory##*flotilla-endpoint-}
    [[ ! -O $directory || -e /proc/${owner%%.*} ]] || rm -rf "$directory"
  done
  find "$FLOTILLA_LOGS" -name 'endpoint-*.log' -mtime +7 -delete
}

# start_endpoint KIND: another program can take the port between its choice
# and its use, hence a few attempts.
start_endpoint() {
  local kind=$1 attempt
  sweep
  : >"$ENDPOINT_LOG"
  endpoint_dir=$(mktemp -d -t "flotilla-endpoint-$$.XXXXXX")
  for attempt in 1 2 3; do
    endpoint_port=$(free_port)
    "start_$kind"
    if await_healthy 90; then
      say "  ok  $kind answers at http://127.0.0.1:$endpoint_port (log: $ENDPOINT_LOG)"
      return
    fi
    warn "$kind did not start on port $endpoint_port (attempt $attempt)"
    stop_process
  done
  tail -n 20 "$ENDPOINT_LOG" | sed 's/^/      | /' >&2
  die "$kind does not start" "its log: $ENDPOINT_LOG"
}

# spawn COMMAND…: in a session of its own, so that Ctrl-C reaches the command
# under test alone and it can still use the endpoint while it drains; and tied
# to this script's life, should that be killed outright.
spawn() {
  (
    cd "$endpoint_dir" || exit
    exec setsid setpriv --pdeathsig TERM "$@"
  ) >>"$ENDPOINT_LOG" 2>&1 </dev/null 9>&- &
  endpoint_pid=$!
}

start_ministack() {
  spawn env BIND_HOST=127.0.0.1 GATEWAY_PORT="$endpoint_port" MINISTACK_HOST=127.0.0.1 \
    DOCKER_HOST=unix:///nonexistent STATE_DIR="$endpoint_dir/state" \
    S3_DATA_DIR="$endpoint_dir/s3" "$MINISTACK_VENV/bin/ministack"
}

start_localstack() {
  local settings=(
    "LOCALSTACK_HOST=127.0.0.1:$endpoint_port" DISABLE_EVENTS=1 SKIP_SSL_CERT_DOWNLOAD=1
    DNS_ADDRESS=0 PROVIDER_OVERRIDE_DYNAMODB=v2 DYNAMODB_IN_MEMORY=1 SQS_ENDPOINT_STRATEGY=path
  )
  if has_localstack_image; then
    start_localstack_container "${settings[@]}"
  else
    start_localstack_packages "${settings[@]}"
  fi
}

start_localstack_container() {
  local flags=() setting
  for setting in "$@"; do flags+=(--env "$setting"); done
  endpoint_container="flotilla-localstack-$$-$endpoint_port"
  spawn docker run --rm --name "$endpoint_container" --label flotilla.endpoint=localstack \
    --publish "127.0.0.1:$endpoint_port:4566" "${flags[@]}" "$LOCALSTACK_IMAGE"
}

# Each run gets a root of its own, since LocalStack keeps state below it; what
# is only read is linked.
start_localstack_packages() {
  local root="$endpoint_dir/root"
  mkdir -p "$root/var/lib/localstack"
  ln -sfn "$LOCALSTACK_FILES/var/lib/localstack/lib" "$root/var/lib/localstack/lib"
  spawn env "$@" "FILESYSTEM_ROOT=$root" OVERRIDE_IN_DOCKER=0 GATEWAY_SERVER=hypercorn \
    "GATEWAY_LISTEN=127.0.0.1:$endpoint_port" DOCKER_HOST=unix:///nonexistent \
    "TMPDIR=$endpoint_dir" "$LOCALSTACK_VENV/bin/python" -m localstack.runtime.main
}

endpoint_lives() { [[ -n $endpoint_pid ]] && kill -0 "$endpoint_pid" 2>/dev/null; }

# Both answer this path; bash speaks enough HTTP to ask, so nothing is needed.
healthy() {
  # shellcheck disable=SC2016 # $0 is for the inner shell
  timeout 5 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" &&
    printf "GET /_localstack/health HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n" >&3 &&
    head -n 1 <&3 | grep -q " 200"' "$endpoint_port" 2>/dev/null
}

# await_healthy SECONDS: fails at once when the process has ended.
await_healthy() {
  local deadline=$((SECONDS + $1)) shown=$SECONDS
  until healthy; do
    endpoint_lives && ((SECONDS < deadline)) || return 1
    if ((SECONDS - shown >= 5)); then
      say "  ..  waiting for the endpoint: $(tail -n 1 "$ENDPOINT_LOG" | cut -c 1-70)"
      shown=$SECONDS
    fi
    sleep 0.1
  done
}

# stop_process: asks, waits ten seconds, then ends the whole session; the
# second kill also reaches children that outlived their parent.
stop_process() {
  [[ -n $endpoint_pid ]] || return 0
  kill -TERM "$endpoint_pid" 2>/dev/null || true
  local deadline=$((SECONDS + 10))
  while endpoint_lives && ((SECONDS < deadline)); do sleep 0.05; done
  kill -KILL -- "-$endpoint_pid" 2>/dev/null || true
  wait "$endpoint_pid" 2>/dev/null || true
  endpoint_pid=
  [[ -z $endpoint_container ]] || docker rm -f "$endpoint_container" >/dev/null 2>&1 || true
  endpoint_container=
}

stop_endpoint() {
  trap '' INT TERM HUP
  stop_process
  [[ -z $endpoint_dir ]] || rm -rf "$endpoint_dir"
}

# aws_environment: nothing of the caller's account, profile or proxy may reach
# the command, and nothing of it a real account.
aws_environment() {
  local name
  for name in $(compgen -e | grep -iE '^(AWS_.*|(https?|all)_proxy)$' || true); do unset "$name"; done
  export AWS_ENDPOINT_URL="http://127.0.0.1:$endpoint_port"
  # One inside the other, they add up: see on-an-endpoint.
  export FLOTILLA_ENDPOINTS="${FLOTILLA_ENDPOINTS:+$FLOTILLA_ENDPOINTS }$AWS_ENDPOINT_URL"
  export AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1
  export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_EC2_METADATA_DISABLED=true
  export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null
  export FLOTILLA_MINISTACK="$MINISTACK_VENV/bin/ministack"
  export FLOTILLA_MOTO="$endpoint_dir/moto"
  export FLOTILLA_UV="$UV_VENV/bin/uv"
}

# run_command COMMAND…: exits as it does. It runs beside the shell, or a signal
# to us would wait until it ends; that makes bash ignore SIGINT in it, which
# env undoes. Ctrl-C reaches it from the terminal; other signals are passed on.
run_command() {
  local pid rc=0 again=0
  env --default-signal=INT,QUIT "$@" <&0 &
  pid=$!
  trap : INT
  # shellcheck disable=SC2064
  trap "kill -TERM $pid 2>/dev/null" TERM HUP
  wait "$pid" || rc=$?
  while ((rc > 128)) && kill -0 "$pid" 2>/dev/null; do
    rc=0
    wait "$pid" || rc=$?
  done
  # It may have ended while a signal of ours interrupted the wait.
  wait "$pid" 2>/dev/null || again=$?
  ((again == 127)) || rc=$again
  exit "$rc"
}
