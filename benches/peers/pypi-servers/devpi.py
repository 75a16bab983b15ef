"""devpi.py PLACE FILES ADDRESS: a devpi server with one index, bench/index, that holds the files."""

import base64
import json
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request

PASSWORD = "bench"


def call(url, method, body=None, kind="application/json", token=None):
    headers = {"Accept": "application/json", "Content-Type": kind}
    if token:
        headers["X-Devpi-Auth"] = base64.b64encode(f"bench:{token}".encode()).decode()
    request = urllib.request.Request(url, data=body, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or b"null")


def wait(url):
    for _ in range(600):
        try:
            return call(f"{url}/+api", "GET")
        except urllib.error.URLError:
            time.sleep(0.1)
    sys.exit("devpi-server does not answer")


def upload(url, token, path):
    name, version = path.name.split("-")[:2]
    fields = {":action": "file_upload", "name": name, "version": version}
    line = "bench-boundary-0123456789"
    body = b""
    for key, value in fields.items():
        body += f'--{line}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
    head = f'--{line}\r\nContent-Disposition: form-data; name="content"; filename="{path.name}"\r\n'
    body += head.encode() + b"Content-Type: application/octet-stream\r\n\r\n"
    body += path.read_bytes() + f"\r\n--{line}--\r\n".encode()
    call(f"{url}/bench/index/", "POST", body, f"multipart/form-data; boundary={line}", token)


def main():
    place, files, address = sys.argv[1:]
    commands = pathlib.Path(sys.executable).parent
    subprocess.run(
        [commands / "devpi-init", "--serverdir", place, "--no-root-pypi"], check=True, stdout=2
    )
    host, port = address.split(":")
    server = subprocess.Popen(
        [commands / "devpi-server", "--serverdir", place, "--host", host, "--port", port]
    )
    url = f"http://{address}"
    wait(url)
    call(f"{url}/bench", "PUT", json.dumps({"password": PASSWORD}).encode())
    credentials = json.dumps({"user": "bench", "password": PASSWORD}).encode()
    token = call(f"{url}/+login", "POST", credentials)["result"]["password"]
    settings = json.dumps({"bases": [], "volatile": False}).encode()
    call(f"{url}/bench/index", "PUT", settings, token=token)
    # The one that is fetched goes last: once it is there, all are.
    paths = sorted(pathlib.Path(files).iterdir(), key=lambda path: path.stat().st_size)
    for path in paths:
        upload(url, token, path)
    sys.exit(server.wait())


main()
