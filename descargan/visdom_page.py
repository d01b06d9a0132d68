"""The process of the dashboard's server: visdom's page, and what stands in for it.

    python -m descargan.visdom_page FOLDER        serve the environments saved in FOLDER

The scripts that visdom's page loads are served from the user's cache. Where they are missing they
are fetched in the background, and until they are there a plain page shows what is missing, how to
mend it, and the newest examples of the run; it needs no script.
"""

import asyncio
import base64
import os
import sys
import threading
import time
from collections.abc import Collection
from pathlib import Path

import visdom.server.app
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.routing import AnyMatches, Matcher, PathMatches, Rule, RuleRouter
from tornado.template import Template
from tornado.web import Application, RequestHandler, StaticFileHandler

from descargan.assets import cache_folder, cached, missing_assets, refuse_offline
from descargan.cli import Parser, port, run
from descargan.commands import command
from descargan.errors import UserError
from descargan.names import printable
from descargan.visdom_server import LOOPBACK

STATIC = "/static/"
UNUSED = "main"  # visdom's own environment
LOOK_AGAIN_SECONDS = 5
MENDING = ("-m", "descargan.dashboard", "--install-assets")

PAGE = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="{{ again }}">
<title>DeScarGAN: the dashboard waits for its scripts</title>
<style>
body { font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }
pre { background: #eee; padding: 0.7em; white-space: pre-wrap; overflow-wrap: anywhere; }
img { max-width: 100%; }
</style>
</head>
<body>
<h1>The dashboard waits for its scripts</h1>
<p>Missing on this machine, of what visdom's page loads: {{ ", ".join(missing) }}.</p>
{% if reason is None %}
<p><strong>They are being fetched now</strong>, once per machine. This page looks again every
{{ again }} seconds and turns into the dashboard by itself. Should that fail, this command, in the
folder of the project, fetches them:</p>
{% else %}
<p><strong>They could not be fetched:</strong> {{ reason or "no reason given" }}.</p>
<p>This command, in the folder of the project, fetches them; this page looks again every {{ again }}
seconds and then turns into the dashboard by itself:</p>
{% end %}
<pre>{{ command }}</pre>
<p>On a machine that stays without internet: run it on one that has npm with the name of a folder
after it, bring that folder here, and run the same here.</p>
<h2>Newest examples of the run</h2>
{% if picture %}
<p>{{ picture }}, {{ written }}</p>
<img src="data:image/png;base64,{{ content }}" alt="Newest examples of the run">
{% else %}
<p>There are none yet in {{ folder }}: training draws them after each validation.</p>
{% end %}
<p>The losses are in the metrics file of that folder. Nothing of the run is lost meanwhile.</p>
</body>
</html>
""",
    autoescape="xhtml_escape",
)


class PageWithoutScripts(Matcher):
    """Requests for visdom's page while scripts of it are missing."""

    def match(self, request: HTTPServerRequest) -> dict | None:
        page = request.path.startswith(("/env/", "/compare/"))
        return {} if page and request.method == "GET" and missing_assets() else None


class FrontPage(RequestHandler):
    """Leads to a run, where visdom's front page shows an environment that nobody uses.

    ``shown``: the environments by their names, the newest last.
    """

    def initialize(self, shown: Collection[str]) -> None:
        self.shown = shown

    def get(self) -> None:
        newest = [name for name in self.shown if name != UNUSED] or [UNUSED]
        self.redirect(f"/env/{newest[-1]}")


class CachedScript(Matcher):
    """Requests for a script of visdom's page that is in the cache."""

    def match(self, request: HTTPServerRequest) -> dict | None:
        return {} if cached(request.path.removeprefix(STATIC)) else None


class PlainPage(RequestHandler):
    """Stands in for visdom's page. ``folder`` is that of the run."""

    def initialize(self, folder: Path, fetching: asyncio.Task | None) -> None:
        self.folder, self.fetching = folder, fetching

    def get(self) -> None:
        pictures = sorted(self.folder.glob("examples*.png"), key=lambda p: p.stat().st_mtime)
        newest = pictures[-1] if pictures else None
        self.set_header("Cache-Control", "no-store")
        self.finish(
            PAGE.generate(
                again=LOOK_AGAIN_SECONDS,
                missing=missing_assets(),
                reason=reason_of(self.fetching),
                command=command(*MENDING),
                folder=printable(self.folder),
                picture=newest and printable(newest),
                written=newest and time.ctime(newest.stat().st_mtime),
                content=newest and base64.b64encode(newest.read_bytes()),
            )
        )


def reason_of(fetching: asyncio.Task | None) -> str | None:
    """Why the scripts could not be fetched; None while they still may come."""
    if fetching is None:
        return ""
    return fetching.result() if fetching.done() else None


async def fetch_scripts() -> str:
    """Fetch the scripts in a process of its own, which ends with this one; why that failed."""
    try:
        refuse_offline()
    except UserError as error:
        return str(error)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *MENDING,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, complaint = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    lines = complaint.decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if process.returncode and lines else ""


async def serve(folder: Path, host: str, number: int) -> None:
    """Serve the environments in ``folder`` until something comes by the standard input, or it ends.

    ``folder`` lies in that of the run, whose newest examples a page without scripts shows.
    """
    # Else it would start again, and forget, whenever a file of the program changes.
    visdom.server.app.tornado_settings["autoreload"] = False
    visdom_pages = visdom.server.app.Application(port=number, env_path=str(folder))
    fetching = asyncio.create_task(fetch_scripts()) if missing_assets() else None
    about = {"folder": folder.parent, "fetching": fetching}
    plain_page = Application([(".*", PlainPage, about)])
    front_page = Application([("/", FrontPage, {"shown": visdom_pages.state})])
    scripts = Application([(f"{STATIC}(.*)", StaticFileHandler, {"path": str(cache_folder())})])
    router = RuleRouter(
        [
            Rule(PathMatches("/"), front_page),
            Rule(PageWithoutScripts(), plain_page),
            Rule(CachedScript(), scripts),
            Rule(AnyMatches(), visdom_pages),
        ]
    )
    address = "127.0.0.1" if host in LOOPBACK else None
    HTTPServer(router, max_buffer_size=1024**3).listen(number, address)
    await input_end()


async def input_end() -> None:
    """Wait until something comes by the standard input, or it ends with whoever holds it."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def wait() -> None:
        os.read(0, 1)
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, daemon=True).start()
    await ended.wait()


def main() -> None:
    parser = Parser(description="The server of the dashboard, until its standard input ends.")
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="of the environments, in the folder of the run")
    add("--port", type=port, default=8097, metavar="N", help="default: 8097")
    add("--host", choices=("localhost", "0.0.0.0"), default="localhost", help="who may see it")
    options = parser.parse_args()
    asyncio.run(serve(options.folder.resolve(), options.host, options.port))


if __name__ == "__main__":
    sys.exit(run(main))
