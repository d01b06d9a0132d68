"""The visdom dashboard: losses, validation curves and difference maps, while training and after.

    python -m descargan.dashboard --replay save_nets     show a finished run
    python -m descargan.dashboard --install-assets       fetch the page's scripts, once, with npm

Training only notes what changed; a thread draws it, so that no server, slow, hanging or dead, can
hold training back or stop it.
"""

import contextlib
import hashlib
import html
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import requests
from matplotlib.figure import Figure
from visdom import Visdom

from descargan.assets import install_assets, missing_assets
from descargan.checkpoints import Run
from descargan.cli import Parser, port, run
from descargan.distributed import Process
from descargan.errors import UserError
from descargan.figures import as_array, example_figure
from descargan.kinds import KINDS
from descargan.options import Options
from descargan.visdom_server import (
    LOOPBACK,
    TIMEOUT_SECONDS,
    answers,
    end_with_parent,
    serve,
    start_server,
    warn,
)

REDRAW_SECONDS = 2.0
MAX_POINTS = 2000  # per curve; when there are more, every other one is dropped
HEATMAP_SIDE = 128
# Windows come in this order, in rows of three narrow ones, or of a wide and a narrow one.
ORDER = ("results", "test examples", "examples", "options", "cycle", "critic", "generator")
ORDER += ("location", "classes", "errors", "gradients", "totals")
NARROW, WIDE, LOW, HIGH = 440, 888, 300, 600

# Window: (kind of record, title, label of the y axis, logarithmic, names in the record).
CURVES = {
    "critic": (
        "losses",
        "Critic and classifier: loss terms",
        "unweighted loss",
        False,
        ("critic/adversarial", "critic/gradient penalty", "critic/classification"),
    ),
    "generator": (
        "losses",
        "Generator: loss terms",
        "unweighted loss",
        False,
        ("generator/adversarial", "generator/classification"),
    ),
    "cycle": (
        "losses",
        "Generator: identity, reconstruction (falling is good), change",
        "MSE; mean |change|",
        True,
        ("generator/identity", "generator/reconstruction", "generator/change"),
    ),
    "totals": (
        "losses",
        "Weighted totals",
        "loss",
        False,
        ("critic/total", "generator/total"),
    ),
    "gradients": (
        "losses",
        "Gradient norms before clipping",
        "L2 norm",
        True,
        ("critic/gradient norm", "generator/gradient norm"),
    ),
    "classes": (
        "validation",
        "Validation: classes (towards 1 is good)",
        "share; kappa; choice",
        False,
        (
            "accuracy",
            "accuracy translated into own class",
            "accuracy translated into other class",
            "kappa",
            "choice",
        ),
    ),
    "location": (
        "validation",
        "Validation: localisation (towards 1 is good)",
        "mean over diseased images",
        False,
        ("pixel_auroc", "pixel_auprc", "dice", "map_ssim"),
    ),
    "errors": (
        "validation",
        "Validation: errors of the maps (falling is good)",
        "mean squared error",
        True,
        ("mse_healthy", "map_mse"),
    ),
}


class Curve:
    """Points of one curve, thinned so that memory and messages stay bounded."""

    def __init__(self) -> None:
        self.x: list[float] = []
        self.y: list[float] = []
        self.seen = 0
        self.stride = 1  # every so many points are kept

    def add(self, x: float, y: float) -> None:
        if self.seen % self.stride == 0:
            self.x.append(x)
            self.y.append(y)
        self.seen += 1
        if len(self.x) > MAX_POINTS:
            self.x, self.y, self.stride = self.x[::2], self.y[::2], 2 * self.stride


class Client(Visdom):
    """A visdom client whose requests end: a server that hangs is as good as none."""

    def __init__(self, address: str, number: int, env: str) -> None:
        super().__init__(
            server=address, port=number, env=env, raise_exceptions=True, use_incoming_socket=False
        )

    def _handle_post(self, url: str, data: object = None) -> str:
        return requests.post(url, data=data or {}, timeout=TIMEOUT_SECONDS).text


class Dashboard:
    """Windows of one environment. Without an address it takes everything and shows nothing."""

    def __init__(
        self,
        address: str | None = None,
        number: int = 8097,
        env: str = "main",
        server: subprocess.Popen | None = None,
    ) -> None:
        self.address, self.number, self.env, self.server = address, number, env, server
        self.lock = threading.Lock()
        self.changed: dict[str, Callable[[Client], object]] = {}
        self.curves = {
            window: {name: Curve() for name in spec[4]} for window, spec in CURVES.items()
        }
        self.wake, self.closing = threading.Event(), False
        self.thread = threading.Thread(target=self._draw_changes, daemon=True)
        if address:
            self.thread.start()

    @property
    def url(self) -> str | None:
        return self.address and f"{self.address}:{self.number}/env/{self.env}"

    def add(self, record: dict) -> None:
        """Take a line of the metrics history."""
        if not self.address:
            return
        with self.lock:
            for window, (kind, _, _, _, names) in CURVES.items():
                if kind != record["kind"]:
                    continue
                x = record["iteration" if kind == "losses" else "epoch"]
                known = [name for name in names if record.get(name) is not None]
                for name in known:
                    self.curves[window][name].add(x, record[name])
                if known:
                    self.changed[window] = lambda client, w=window: self._draw_curves(client, w)

    def describe(self, description: dict) -> None:
        """Show the options of the run as text."""
        rows = {**description["options"], **description["versions"]}
        self._show("options", lambda client: draw_table(client, "options", "This run", rows))

    def show_examples(self, columns: dict[str, np.ndarray]) -> None:
        """Show the fixed validation batch, its translations and its difference maps.

        ``columns``: name: (B, H, W), as of ``evaluation.translate_examples``.
        """
        maps = columns["difference map"]
        step = max(1, maps.shape[-1] // HEATMAP_SIDE)
        joined = np.concatenate(list(maps[:, ::step, ::step]), axis=1)
        title = "Fixed validation batch: difference maps, one colour scale"

        def draw(client: Client) -> None:
            draw_picture(client, "examples", example_figure(columns, ""), "Fixed validation batch")
            client.heatmap(joined[::-1], win="maps", opts=heatmap_options(title))

        self._show("examples", draw)

    def show_results(self, rows: dict[str, str], figure: Figure) -> None:
        """Show the metrics of a test as a table, and its examples."""

        def draw(client: Client) -> None:
            draw_table(client, "results", "Test results: mean [95 % interval]", rows)
            draw_picture(client, "test examples", figure, "Test images")

        self._show("results", draw)

    def close(self) -> None:
        """Draw what is left, save the environment, and end a server that was started for it.

        A server that does not answer is waited for a few seconds at most.
        """
        if self.address:
            self.closing = True
            self.wake.set()
            self.thread.join(2 * TIMEOUT_SECONDS)
        if self.server:
            self.server.terminate()
            self.server.wait()

    def _show(self, window: str, draw: Callable[[Client], object]) -> None:
        if self.address:
            with self.lock:
                self.changed[window] = draw

    def _draw_changes(self) -> None:
        """Body of the thread: draw what changed, every two seconds; try again what failed."""
        client, lost = None, False
        while True:
            self.wake.wait(REDRAW_SECONDS)
            last = self.closing
            with self.lock:
                changed, self.changed = self.changed, {}
            drawn = set()
            try:
                client = client or Client(self.address, self.number, self.env)
                for window in sorted(changed, key=ORDER.index):
                    changed[window](client)
                    drawn.add(window)
                if last:
                    client.save([self.env])
                lost = False
            except Exception as error:  # whatever it is, training must not notice
                with self.lock:
                    waiting = {w: draw for w, draw in changed.items() if w not in drawn}
                    self.changed = waiting | self.changed
                client = None
                if not lost:
                    lost = True
                    warn(f"the dashboard at {self.url} is gone ({error}); going on without it")
            if last:
                return

    def _draw_curves(self, client: Client, window: str) -> None:
        kind, title, label, logarithmic, names = CURVES[window]
        with self.lock:
            series = {n: (list(c.x), list(c.y)) for n in names if (c := self.curves[window][n]).x}
        longest = max(len(x) for x, _ in series.values())

        def padded(values: list[float]) -> list[float]:
            return values + [np.nan] * (longest - len(values))

        x, y = (np.array([padded(s[i]) for s in series.values()]).T for i in (0, 1))
        options = {
            "title": title,
            "xlabel": "iteration" if kind == "losses" else "epoch",
            "ylabel": label,
            "ytype": "log" if logarithmic else "linear",
            "legend": [name.removeprefix("accuracy ") for name in series],
            "width": NARROW,
            "height": LOW,
            "markers": kind == "validation",
            "margintop": 25,
            "marginbottom": 90,
            "layoutopts": {"plotly": {"title": None, "legend": {"orientation": "h", "y": -0.35}}},
        }
        client.line(
            Y=y if len(series) > 1 else y[:, 0],
            X=x if len(series) > 1 else x[:, 0],
            win=window,
            opts=options,
        )


def draw_picture(client: Client, window: str, figure: Figure, title: str) -> None:
    """A figure that fills its window."""
    scale = min((WIDE - 10) / figure.get_figwidth(), (HIGH - 30) / figure.get_figheight())
    options = {"title": title, "width": WIDE, "height": HIGH}
    client.image(as_array(figure, dpi=scale), win=window, opts=options)


def heatmap_options(title: str) -> dict:
    limits = {"xmin": -1.0, "xmax": 1.0}
    return {"title": title, "colormap": "RdBu", "width": WIDE, "height": LOW, **limits}


def draw_table(client: Client, window: str, title: str, rows: dict) -> None:
    body = "".join(
        f"<tr><td style='padding-right:1em'>{html.escape(str(k))}</td>"
        f"<td>{html.escape(str(v))}</td></tr>"
        for k, v in rows.items()
    )
    text = f"<table style='font:12px sans-serif'>{body}</table>"
    client.text(text, win=window, opts={"title": title, "width": NARROW, "height": HIGH})


def environment(folder: Path, dataset: str) -> str:
    """One environment per run: named for the folder, told apart by its full path."""
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:4]
    name = "".join(c if c.isalnum() or c in "-." else "-" for c in folder.resolve().name)
    return f"{dataset}-{name}-{digest}"


@contextmanager
def connected(options: Options, process: Process) -> Iterator[Dashboard]:
    """The dashboard of a run for as long as the block runs; the first process alone has one."""
    dashboard = connect(
        options.visdom if process.is_first else "off",
        options.visdom_server,
        options.visdom_port,
        environment(options.save_dir, options.dataset),
        options.save_dir / "dashboard",
    )
    try:
        yield dashboard
    finally:
        dashboard.close()


def connect(
    mode: str, address: str, number: int, env: str, folder: Path, host: str = "localhost"
) -> Dashboard:
    """A dashboard on the server at ``address``, or on one started here where none answers.

    ``mode``: 'off' shows nothing; 'auto' goes on without a server, with a warning, where none can
    be had; 'on' raises UserError then. A server started here listens on ``host`` and keeps its
    environments in ``folder``.
    """
    if mode == "off":
        return Dashboard()
    logging.getLogger("visdom").setLevel(logging.ERROR)
    parsed = urlparse(address if "//" in address else f"http://{address}")
    address = f"{parsed.scheme}://{parsed.netloc}"
    try:
        server = None
        if not answers(address, number):
            if parsed.hostname not in LOOPBACK:
                raise UserError(
                    f"no visdom server answers at {address}:{number}: start one there, or see "
                    "--visdom-server and --visdom-port"
                )
            server = start_server(number, folder, host)
    except UserError as error:
        if mode == "on":
            raise
        warn(f"no dashboard: {error}")
        return Dashboard()
    dashboard = Dashboard(address, number, env, server)
    print(f"dashboard: {dashboard.url}")
    if server and missing_assets():
        warn(
            "the dashboard's page stays empty, as its scripts are not installed: run "
            "'python -m descargan.dashboard --install-assets' (the data is all on disk too)"
        )
    return dashboard


def replay(folder: Path, dataset: str, dashboard: Dashboard) -> None:
    """Show a run from its options, metrics history and last examples.

    Raises UserError where ``folder`` holds no such run.
    """
    files = Run(folder, dataset)
    records = files.read_metrics()
    if not records:
        raise UserError(f"{files.metrics} holds no metrics of a run: see --replay and --dataset")
    dashboard.describe(files.read_description())
    for record in records:
        dashboard.add(record)
    if files.examples.is_file():
        with np.load(files.examples, allow_pickle=False) as columns:
            dashboard.show_examples(dict(columns))


def build_parser() -> Parser:
    parser = Parser(description="The dashboard without training: replay, server, page scripts.")
    add = parser.add_mutually_exclusive_group(required=True).add_argument
    add("--replay", type=Path, metavar="DIR", help="show the run saved in DIR, until Ctrl-C")
    text = "serve the environments saved in DIR, until the standard input ends"
    add("--serve", type=Path, metavar="DIR", help=text)
    text = "fetch the page's scripts with npm; with DIR, through that folder (see the README)"
    add(
        "--install-assets",
        type=Path,
        nargs="?",
        const=Path(),
        default=None,
        metavar="DIR",
        help=text,
    )
    add = parser.add_argument
    text = "of the run to replay (default: Synthetic)"
    add("--dataset", choices=tuple(KINDS), default="Synthetic", help=text)
    add("--port", type=port, default=8097, metavar="N", help="default: 8097")
    text = "localhost, or 0.0.0.0 to show it to everyone on the network (default: localhost)"
    add("--host", choices=("localhost", "0.0.0.0"), default="localhost", help=text)
    return parser


def main() -> None:
    options = build_parser().parse_args()
    if options.install_assets is not None:
        install_assets(None if options.install_assets == Path() else options.install_assets)
    elif options.serve is not None:
        threading.Thread(target=end_with_parent, daemon=True).start()
        serve(options.serve, options.host, options.port)
    else:
        folder = options.replay
        env = environment(folder, options.dataset)
        dashboard = connect(
            "on", "http://localhost", options.port, env, folder / "dashboard", options.host
        )
        try:
            with contextlib.suppress(KeyboardInterrupt):
                replay(folder, options.dataset, dashboard)
                print("press Ctrl-C to end", flush=True)
                threading.Event().wait()
        finally:
            dashboard.close()


if __name__ == "__main__":
    sys.exit(run(main))
