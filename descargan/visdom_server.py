"""The process of the dashboard's server: whether one answers, and one of our own."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import requests

from descargan.errors import UserError

TIMEOUT_SECONDS = 5.0
START_SECONDS = 30.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def answers(address: str, number: int) -> bool:
    """Whether a visdom server answers. Raises UserError where something else does."""
    try:
        reply = requests.get(f"{address}:{number}/", timeout=TIMEOUT_SECONDS)
    except requests.exceptions.ConnectionError as error:
        if "refused" in str(error) or isinstance(error, requests.exceptions.ConnectTimeout):
            return False
        reply = None
    except requests.RequestException:
        reply = None
    if reply is None or "visdom" not in reply.text.lower():
        raise UserError(
            f"port {number} is taken by another program: pass a free one to --visdom-port"
        )
    return True


def start_server(number: int, folder: Path, host: str = "localhost") -> subprocess.Popen:
    """A visdom server that ends with this process; from this machine alone it can be reached,
    unless ``host`` says otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "descargan.dashboard", "--serve", str(folder.resolve())]
    process = subprocess.Popen(
        [*command, "--port", str(number), "--host", host],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=Path(__file__).resolve().parents[1],
    )
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(UserError):
            if answers("http://127.0.0.1", number):
                return process
        time.sleep(0.1)
    process.kill()
    process.wait()
    raise UserError(f"no visdom server could be started on port {number}: see --visdom-port")


def serve(folder: Path, host: str, number: int) -> None:
    """Run a visdom server in this process. It downloads nothing, unlike visdom's own start."""
    from visdom.server.run_server import start_server as run_visdom

    run_visdom(
        port=number,
        hostname=host,
        base_url="",
        env_path=str(folder.resolve()),
        user_credential=None,
        bind_local=host in LOOPBACK,
        print_func=lambda _: None,
    )


def end_with_parent() -> None:
    """End this process when the one that holds its standard input is gone."""
    sys.stdin.read()
    os._exit(0)


def warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr)
