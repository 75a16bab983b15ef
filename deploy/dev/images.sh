# shellcheck shell=bash
# The images: Debian as the base; on top of it the sandbox image and the builder image.

image_id() { docker image inspect -f '{{.Id}}' "$1" 2>/dev/null; }

setup_base_image() {
  if ! image_id "$BASE_IMAGE" >/dev/null; then
    step "look for $BASE_IMAGE in the registry" pull_base_image
    image_id "$BASE_IMAGE" >/dev/null || make_base_image
  fi
  done_step "base image $BASE_IMAGE"
}

pull_base_image() {
  timeout 120 docker pull "$BASE_IMAGE" || echo "not to be had from a registry"
}

# The same Debian, from its packages.
make_base_image() {
  apt_install mmdebstrap debian-archive-keyring
  step "base image $BASE_IMAGE from Debian packages" bootstrap_base_image
}

bootstrap_base_image() {
  local directory sources
  directory=$(mktemp -d)
  sources=$(suite_sources)
  as_root mmdebstrap --variant=minbase --include=ca-certificates \
    "$BASE_SUITE" "$directory/base.tar" ${sources:+"$sources"}
  as_root cat "$directory/base.tar" | docker import - "$BASE_IMAGE"
  as_root rm -rf "$directory"
}

# The machine's own package sources, if they are of the base image's suite: a
# machine behind a mirror reaches nothing else. Otherwise nothing, and
# mmdebstrap takes its default.
suite_sources() {
  local file
  for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
    if grep -qsE "^(Suites:|deb ).*\b$BASE_SUITE\b" "$file"; then
      echo "$file"
      return
    fi
  done
}

SUPERVISOR_TARGET=x86_64-unknown-linux-gnu
SUPERVISOR="$TARGET_DIR/supervisor/$SUPERVISOR_TARGET/release/flotilla-supervisor"

# PID 1 of every cell must run in an image whatever its C library, so it is
# linked statically; in a target directory of its own, because other flags in
# the common one would recompile everything there.
build_supervisor() {
  cd "$FLOTILLA_ROOT" || return
  # The same binary, whatever folder the checkout is in: it is part of the image's tag.
  local flags="-C target-feature=+crt-static --remap-path-prefix=$(pwd)=/flotilla"
  env -u CARGO_ENCODED_RUSTFLAGS RUSTFLAGS="$flags" \
    cargo build --release --target "$SUPERVISOR_TARGET" --target-dir "$TARGET_DIR/supervisor" \
    -p flotilla-supervisor --bin flotilla-supervisor
}

setup_sandbox_image() {
  step "supervisor (static binary)" build_supervisor
  setup_image "sandbox image" "$SANDBOX_IMAGE" python3 "$SUPERVISOR"
}

# The image that packages are compiled in.
setup_builder_image() {
  setup_image "builder image" "$BUILDER_IMAGE" python3-build \
    "$FLOTILLA_ROOT/deploy/images/python3-build/build.py"
}

# setup_image TITLE IMAGE FOLDER FILE…: the image of deploy/images/FOLDER, whose Dockerfile copies
# the files.
setup_image() {
  local title=$1 image=$2 folder=$3 tag
  shift 3
  tag=$(image_tag "$folder" "$@")
  if image_id "$image:$tag" >/dev/null; then
    docker tag "$image:$tag" "$image:latest"
    done_step "$title $image:$tag"
  else
    step "$title $image:$tag" build_image "$image" "$tag" "$folder" "$@"
  fi
}

# image_tag FOLDER FILE…: names what the image is made of, so that an unchanged image is not built
# again and a changed one never mistaken for it.
image_tag() {
  local folder=$1 file
  shift
  {
    for file in "$FLOTILLA_ROOT/deploy/images/$folder/Dockerfile" "$@"; do sha256sum <"$file"; done
    image_id "$BASE_IMAGE"
  } | sha256sum | cut -c 1-12
}

# build_image IMAGE TAG FOLDER FILE…: from a context that holds nothing but what the Dockerfile
# copies.
build_image() {
  local image=$1 tag=$2 folder=$3 context
  shift 3
  context=$(mktemp -d)
  install -m 0644 "$FLOTILLA_ROOT/deploy/images/$folder/Dockerfile" "$context/Dockerfile"
  install -m 0755 "$@" "$context"
  docker build --network host --label "flotilla.image=$folder" \
    --tag "$image:$tag" "$context" || { rm -rf "$context"; return 1; }
  rm -rf "$context"
  docker tag "$image:$tag" "$image:latest"
  remove_old_images "$image" "$tag"
}

# remove_old_images IMAGE TAG: of an image's other tags all but the two newest,
# which another checkout may be using; one in use stays until the next build.
remove_old_images() {
  local old
  docker image ls --format '{{.Tag}}' "$1" |
    { grep -vxE "$2|latest" || true; } | tail -n +3 |
    while read -r old; do docker image rm "$1:$old" || true; done
}
