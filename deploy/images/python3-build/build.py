"""Builds one source distribution into a wheel, without network, and hands it out.

Standard input: eight bytes with the length of a tar, the tar, and nothing more; it stays open for
as long as somebody waits for the result. Standard error: the log. Standard output: eight bytes
with the length of a JSON object, the object, and the bytes of the wheel that it describes; or, where
the build backend wants more requirements than it was given, an object that names these. Told to
`gzip`, it takes an archive in place of the tar, and hands that out compressed in another way.
"""

import bz2
import glob
import gzip
import hashlib
import json
import lzma
import os
import platform
import shutil
import struct
import subprocess
import sys
import sysconfig
import tarfile
import threading

ROOT = "/build"
AUDIT = "/usr/local/lib/flotilla/audit"
VENDORED = "/usr/share/python-wheels"
# What the worker takes for the end of this container by somebody else: nobody waits for it any more,
# SIGKILL, SIGTERM.
NOBODY = 75
ENDED = (NOBODY, 128 + 9, 128 + 15)

# Runs in the environment of the build, in the folder of the source.
BACKEND = """
import importlib, json, os, sys
plan = json.loads(sys.argv[1])
sys.path[:0] = plan["backend_path"]
module, _, attribute = plan["backend"].partition(":")
backend = importlib.import_module(module)
for part in filter(None, attribute.split(".")):
    backend = getattr(backend, part)
config = plan["config"] or None
"""

# What the backend wants beside what it was given (PEP 517).
REQUIRES = BACKEND + """
hook = getattr(backend, "get_requires_for_build_wheel", None)
with open("/build/requires", "w") as file:
    json.dump([str(it) for it in hook(config)] if hook else [], file)
"""

WHEEL = BACKEND + """
name = backend.build_wheel("/build/out", config)
with open("/build/name", "w") as file:
    file.write(name)
"""


# Runs in the interpreter of the image, not in that of the build.
REPAIR = f"""
import os, sys
sys.path.insert(0, "{AUDIT}")
os.environ["PATH"] = "{AUDIT}/bin:" + os.environ["PATH"]
from auditwheel.main import main
sys.argv[1:] = ["repair", "--plat", "auto", "--disable-isa-ext-check",
                "--wheel-dir", sys.argv[2], sys.argv[1]]
sys.exit(main())
"""


def read_exactly(count):
    data = bytearray()
    while len(data) < count:
        piece = os.read(0, min(count - len(data), 1 << 20))
        if not piece:
            sys.exit("the input ended early")
        data += piece
    return bytes(data)


def follow_parent():
    """Ends this container when nobody waits for it any more."""
    if not os.read(0, 1):
        os._exit(NOBODY)


def answer(header, *paths):
    with os.fdopen(os.dup(1), "wb") as out:
        text = json.dumps(header).encode()
        out.write(struct.pack(">Q", len(text)) + text)
        for path in paths:
            with open(path, "rb") as file:
                while piece := file.read(1 << 20):
                    out.write(piece)


def run(command, **more):
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=2, **more).returncode


def platform_tag():
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


def libc():
    return platform.libc_ver()[1]


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def probe():
    """What can be built here, and with what."""
    version = sys.version_info
    wheels = sorted(glob.glob(f"{VENDORED}/*.whl"))
    answer({
        "abi": f"cp{version.major}{version.minor}",
        "python": platform.python_version(),
        "platform": platform_tag(),
        "glibc": libc(),
        "wheels": [{"filename": os.path.basename(it), "sha256": sha256(it)} for it in wheels],
    })


def writable(members):
    """Files and folders that who builds may write to, whatever the archive says: backends do."""
    for member in members:
        if member.isreg() or member.isdir():
            member.mode |= 0o700 if member.isdir() else 0o600
        yield member


def source_folder():
    with tarfile.open(f"{ROOT}/source.tar.gz") as source:
        source.extractall(f"{ROOT}/src", members=writable(source))
    folders = [it.path for it in os.scandir(f"{ROOT}/src") if it.is_dir()]
    if len(folders) != 1:
        sys.exit("error: the source distribution does not have one folder at its top")
    return folders[0]


def environment(plan):
    """An environment with the build requirements, and nothing else."""
    python = f"{ROOT}/env/bin/python"
    if run([sys.executable, "-m", "venv", "--without-pip", f"{ROOT}/env"]):
        sys.exit("error: no environment can be made")
    wheels = [f"{VENDORED}/{name}" for name in plan["vendored"]]
    wheels += sorted(glob.glob(f"{ROOT}/wheels/*.whl"))
    pip = [sys.executable, "-m", "pip", "--python", python, "--isolated", "install", "--quiet",
           "--no-index", "--no-deps", "--no-compile", "--no-cache-dir",
           "--disable-pip-version-check", "--no-warn-script-location"]
    if wheels and run(pip + wheels):
        sys.exit("error: the build requirements cannot be installed")
    return python


def failed(status):
    """Ends with the status of what failed, unless that would say that this container was ended from
    outside."""
    status = status if status > 0 else 128 - status
    sys.exit(1 if status in ENDED else status)


def hook(python, code, plan, folder):
    """A hook runs in a process of its own, as backends expect."""
    status = run([python, "-c", code, json.dumps(plan)], cwd=folder)
    if status:
        failed(status)


def received(path):
    """Stores what this is to work on."""
    (length,) = struct.unpack(">Q", read_exactly(8))
    with open(path, "wb") as file:
        file.write(read_exactly(length))
    threading.Thread(target=follow_parent, daemon=True).start()


def given():
    """Unpacks what this is to work on; gives the plan."""
    received(f"{ROOT}/input.tar")
    with tarfile.open(f"{ROOT}/input.tar") as tar:
        tar.extractall(ROOT)
    os.unlink(f"{ROOT}/input.tar")
    with open(f"{ROOT}/plan.json") as file:
        return json.load(file)


def repaired(name):
    """The wheel under the manylinux tag of what it links, with the libraries that are not of every
    system inside; or as it was, where there is nothing to look at or no such tag."""
    path = f"{ROOT}/out/{name}"
    if not name.endswith("_x86_64.whl") or "-linux_" not in name:
        return path, False
    os.mkdir(f"{ROOT}/repaired")
    status = run([sys.executable, "-I", "-c", REPAIR, path, f"{ROOT}/repaired"])
    wheels = glob.glob(f"{ROOT}/repaired/*.whl")
    return (wheels[0], True) if status == 0 and len(wheels) == 1 else (path, False)


def build():
    plan = given()
    for name in ("out", "home"):
        os.mkdir(f"{ROOT}/{name}")
    os.environ.update(HOME=f"{ROOT}/home", PYTHONHASHSEED="0", LC_ALL="C.UTF-8", **plan["env"])
    folder, python = source_folder(), environment(plan)
    os.environ["PATH"] = f"{ROOT}/env/bin:" + os.environ["PATH"]
    hook(python, REQUIRES, plan, folder)
    with open(f"{ROOT}/requires") as file:
        more = [it for it in json.load(file) if it not in plan["requires"]]
    if more:
        answer({"requires": more})
        return
    hook(python, WHEEL, plan, folder)
    with open(f"{ROOT}/name") as file:
        name = os.path.basename(file.read())
    path, looked_at = repaired(name)
    size = os.path.getsize(path)
    answer({"filename": os.path.basename(path), "size": size, "repaired": looked_at}, path)


def gzipped():
    """The same archive, compressed as most are: older ones are with bzip2 or xz."""
    path, packed = f"{ROOT}/source.tar.gz", f"{ROOT}/source"
    received(packed)
    with open(packed, "rb") as file:
        module = bz2 if file.read(3) == b"BZh" else lzma
    try:
        with module.open(packed) as source, gzip.GzipFile(path, "wb", 1, mtime=0) as out:
            shutil.copyfileobj(source, out)
    except (OSError, EOFError, lzma.LZMAError) as error:
        sys.exit(f"error: the source cannot be unpacked: {error}")
    answer({}, path)


if __name__ == "__main__":
    {"probe": probe, "gzip": gzipped}.get("".join(sys.argv[1:]), build)()
