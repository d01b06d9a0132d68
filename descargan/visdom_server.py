"""The dashboard's server, seen from outside: whether one answers, and one of our own."""

import contextlib
import subprocess
import sys
import time
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse
from urllib.request import ProxyHandler, build_opener

from descargan.errors import UserError

TIMEOUT_SECONDS = 5.0
START_SECONDS = 30.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")
PROJECT = Path(__file__).resolve().parents[1]


def is_local(address: str) -> bool:
    """Whether an address is that of this machine to itself."""
    return urlparse(address).hostname in LOOPBACK


def answers(address: str, number: int) -> bool:
    """Whether a visdom server answers. Raises UserError where something else does."""
    text = b""
    opener = build_opener(*([ProxyHandler({})] if is_local(address) else []))
    try:
        with opener.open(f"{address}:{number}/", timeout=TIMEOUT_SECONDS) as reply:
            text = reply.read()
    except HTTPError:
        pass
    except URLError:  # not even connected
        return False
    except (OSError, HTTPException):
        pass
    if b"visdom" not in text.lower():
        raise UserError(
            f"port {number} is taken by another program: pass a free one to --visdom-port"
        )
    return True


def start_server(number: int, folder: Path, host: str = "localhost") -> subprocess.Popen:
    """A visdom server that keeps its environments in ``folder`` and ends with this process.

    From this machine alone it can be reached, unless ``host`` says otherwise. Raises UserError
    where none can be started.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "descargan.visdom_page", str(folder.resolve())]
    process = subprocess.Popen(
        [*command, "--port", str(number), "--host", host],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=PROJECT,
        start_new_session=True,  # Ctrl-C is not for it
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
    )
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(UserError):
            if answers("http://127.0.0.1", number):
                return process
        time.sleep(0.1)
    process.kill()
    process.communicate()
    raise UserError(f"no visdom server could be started on port {number}: see --visdom-port")


def stop_server(process: subprocess.Popen) -> None:
    """End a server of ours: anything that comes by its standard input ends it."""
    if process.poll() is not None:
        return
    try:
        process.communicate(b"end", timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
