"""Builds the binaries of one crate, without network, and hands them out.

Standard input, standard error and the head of standard output are as build.py's, which lies beside
this. Behind the head come the binaries that it names, one after the other.
"""

import glob
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(__file__))
from build import ROOT, answer, failed, given, libc, platform_tag, run  # noqa: E402

TARGET = "x86_64-unknown-linux-gnu"
TOOLS = "/usr/local/rust/bin"
VENDOR = f"{ROOT}/vendored"

# Every dependency is a folder; nothing else is looked for, nor chosen where the crate has no lock.
CONFIG = f"""
[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = "{VENDOR}"
[net]
offline = true
[term]
color = "never"
"""


def probe():
    """What can be built here, and with what."""
    version = subprocess.run([f"{TOOLS}/rustc", "--version"], stdout=subprocess.PIPE, check=True)
    answer({
        "abi": TARGET,
        "compiler": version.stdout.decode().strip(),
        "platform": platform_tag(),
        "glibc": libc(),
    })


def unpack(archive, folder):
    if run(["tar", "-xzf", archive, "-C", folder, "--no-same-owner", "--no-same-permissions"]):
        sys.exit(f"error: {os.path.basename(archive)} cannot be unpacked")
    os.unlink(archive)


def vendor():
    os.mkdir(VENDOR)
    for archive in sorted(glob.glob(f"{ROOT}/vendor/*.crate")):
        folder, checksum = os.path.basename(archive).removesuffix(".crate").rsplit(".", 1)
        unpack(archive, VENDOR)
        with open(f"{VENDOR}/{folder}/.cargo-checksum.json", "w") as file:
            json.dump({"files": {}, "package": checksum}, file)


def source_folder():
    os.mkdir(f"{ROOT}/src")
    unpack(f"{ROOT}/source.crate", f"{ROOT}/src")
    folders = [it.path for it in os.scandir(f"{ROOT}/src") if it.is_dir()]
    if len(folders) != 1:
        sys.exit("error: the crate does not have one folder at its top")
    return folders[0]


def cargo(plan, folder):
    """The binaries, as cargo names them."""
    # From outside the crate's folder, as `cargo install` does: configuration in it is not read.
    command = [f"{TOOLS}/cargo", "build", "--offline", "--release", "--bins", "--target", TARGET, "--manifest-path", f"{folder}/Cargo.toml",
               "--message-format", "json-render-diagnostics", *plan["arguments"]]
    # Without a lock of its own cargo makes one of what it finds here.
    command += ["--locked"] if plan["locked"] else []
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    if done.returncode:
        failed(done.returncode)
    told = (json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{"))
    return sorted({it["executable"] for it in told if it.get("executable")})


def build():
    plan = given()
    home = f"{ROOT}/home"
    os.mkdir(home)
    with open(f"{home}/config.toml", "w") as file:
        file.write(CONFIG)
    os.environ.update(
        HOME=home, CARGO_HOME=home, CARGO_TARGET_DIR=f"{ROOT}/target", CARGO_INCREMENTAL="0",
        RUSTC=f"{TOOLS}/rustc", PATH=f"{TOOLS}:" + os.environ["PATH"], LC_ALL="C.UTF-8",
        **plan["env"])
    folder = source_folder()
    vendor()
    paths = cargo(plan, folder)
    binaries = [{"name": os.path.basename(it), "size": os.path.getsize(it)} for it in paths]
    answer({"binaries": binaries}, *paths)


if __name__ == "__main__":
    probe() if sys.argv[1:] == ["probe"] else build()
