"""The visdom dashboard: losses, validation curves and difference maps, while training and after.

    python -m descargan.dashboard --replay save_nets     show a finished run
    python -m descargan.dashboard --install-assets       fetch the page's scripts by hand

Training only notes what changed; a thread draws it, so that no server, slow, hanging or dead, can
hold training back or stop it. visdom itself is imported when something is drawn: nothing else
needs it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import html
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if __name__ == "__main__":  # before what it looks for
    import descargan.installed  # noqa: F401

import numpy as np
from matplotlib.figure import Figure

from descargan.assets import install_assets
from descargan.checkpoints import Run, find_run, stored_arrays
from descargan.cli import Parser, path, port, run
from descargan.commands import command
from descargan.distributed import Process
from descargan.errors import UserError, warn
from descargan.figures import as_array, example_figure
from descargan.kinds import KINDS
from descargan.options import Options
from descargan.visdom_server import (
    TIMEOUT_SECONDS,
    answers,
    is_local,
    start_server,
    stop_server,
)

if TYPE_CHECKING:
    from visdom import Visdom

REDRAW_SECONDS = 2.0
MAX_POINTS = 2000  # per curve; when there are more, every other one is dropped
HEATMAP_SIDE = 128
LONGEST = 50  # letters of a folder's name in that of an environment, which names a file
NARROW, WIDE, LOW, HIGH = 440, 888, 300, 600
# Width and height of the windows, in their order: rows of three narrow, or a wide and a narrow one.
SIZES = {
    "start": (NARROW, LOW),
    "results": (NARROW, HIGH),
    "test examples": (WIDE, HIGH),
    "examples": (WIDE, HIGH),
    "cycle": (NARROW, LOW),
    "maps": (WIDE, LOW),
    "location": (NARROW, LOW),
    "critic": (NARROW, LOW),
    "generator": (NARROW, LOW),
    "classes": (NARROW, LOW),
    "errors": (NARROW, LOW),
    "gradients": (NARROW, LOW),
    "totals": (NARROW, LOW),
    "options": (NARROW, HIGH),
}
ORDER = list(SIZES)


class Plot(NamedTuple):
    """A window of curves: which values of which records it draws, and how."""

    kind: str  # of the records: "losses", over the iteration, or "validation", over the epoch
    title: str
    label: str  # of the y axis
    logarithmic: bool = False
    names: tuple[str, ...] = ()


# The plots "critic" and "generator" draw every loss term of that player that no other plot names.
CURVES = {
    "critic": Plot("losses", "Critic and classifier: loss terms", "unweighted loss"),
    "generator": Plot("losses", "Generator: loss terms", "unweighted loss"),
    "cycle": Plot(
        "losses",
        "Generator: identity, reconstruction (falling is good), change",
        "MSE; mean |change|",
        True,
        ("generator/identity", "generator/reconstruction", "generator/change"),
    ),
    "totals": Plot("losses", "Weighted totals", "loss", names=("critic/total", "generator/total")),
    "gradients": Plot(
        "losses",
        "Gradient norms before clipping",
        "L2 norm",
        True,
        ("critic/gradient norm", "generator/gradient norm"),
    ),
    "classes": Plot(
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
    "location": Plot(
        "validation",
        "Validation: localisation, by outlines (towards 1 is good)",
        "mean over diseased images",
        False,
        ("pixel_auroc", "pixel_auprc", "dice", "map_ssim"),
    ),
    "errors": Plot(
        "validation",
        "Validation: errors of the maps (falling is good)",
        "mean squared error",
        True,
        ("mse_healthy", "map_mse"),
    ),
}


def plot_of(kind: str, name: str) -> str | None:
    """The plot that draws a value of a record of that kind; losses are named PLAYER/TERM."""
    for window, plot in CURVES.items():
        if kind == plot.kind and name in plot.names:
            return window
    player, _, term = name.partition("/")
    return player if kind == "losses" and term and player in ("critic", "generator") else None


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


def open_client(address: str, number: int, env: str) -> Visdom:
    """A visdom client whose requests end: a server that hangs is as good as none."""
    from visdom import Visdom

    class Client(Visdom):
        def _handle_post(self, url: str, data: object = None) -> str:
            self.session.trust_env = not is_local(address)  # which no proxy knows
            return self.session.post(url, data=data or {}, timeout=TIMEOUT_SECONDS).text

    return Client(
        server=address, port=number, env=env, raise_exceptions=True, use_incoming_socket=False
    )


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
        self.curves: dict[str, dict[str, Curve]] = {window: {} for window in CURVES}
        self.windows: dict[str, Callable[[Visdom], object]] = {}  # how each is drawn
        self.changed: set[str] = set()
        self.wake, self.closing = threading.Event(), False
        self.thread = threading.Thread(target=self._draw_changes, daemon=True)
        if address:
            # visdom's page of an environment that has no window yet stays empty for good.
            self._show({"start": draw_start})
            self.thread.start()

    @property
    def url(self) -> str | None:
        return self.address and f"{self.address}:{self.number}/env/{self.env}"

    def add(self, record: dict) -> None:
        """Take a line of the metrics history."""
        if not self.address:
            return
        kind = record["kind"]
        x = record["iteration" if kind == "losses" else "epoch"]
        changed = set()
        with self.lock:
            for name, value in record.items():
                window = plot_of(kind, name)
                if window and value is not None:
                    self.curves[window].setdefault(name, Curve()).add(x, value)
                    changed.add(window)
        self._show({window: functools.partial(self._draw_curves, window) for window in changed})

    def describe(self, description: dict) -> None:
        """Show the options of a run as text, and keep the place of what it will show."""
        rows = {**description["options"], **description["versions"]}
        places = ("examples", "maps", *CURVES)
        self._show(
            {window: functools.partial(draw_blank, window) for window in places}
            | {"options": lambda client: draw_table(client, "options", "This run", rows)}
        )

    def show_examples(self, columns: dict[str, np.ndarray]) -> None:
        """Show the fixed validation batch, its translations and its difference maps.

        ``columns``: name: (B, H, W), as of ``evaluation.translate_examples``.
        """
        maps = columns["difference map"]
        step = max(1, maps.shape[-1] // HEATMAP_SIDE)
        joined = np.concatenate(list(maps[:, ::step, ::step]), axis=1)
        title = "Fixed validation batch: difference maps, one colour scale"
        options = {"colormap": "RdBu", "xmin": -1.0, "xmax": 1.0, **layout("maps", title)}

        def draw_examples(client: Visdom) -> None:
            draw_picture(client, "examples", "Fixed validation batch", example_figure(columns, ""))

        def draw_maps(client: Visdom) -> None:
            client.heatmap(joined[::-1], win="maps", opts=options)

        self._show({"examples": draw_examples, "maps": draw_maps})

    def show_results(self, rows: dict[str, str], figure: Figure) -> None:
        """Show the metrics of a test as a table, and its examples."""
        title = "Test results: mean [95 % interval]"
        self._show(
            {
                "results": lambda client: draw_table(client, "results", title, rows),
                "test examples": lambda client: draw_picture(
                    client, "test examples", "Test images", figure
                ),
            }
        )

    def close(self) -> None:
        """Draw what is left, save the environment, and end a server that was started for it.

        A server that does not answer is waited for a few seconds at most.
        """
        if self.address:
            self.closing = True
            self.wake.set()
            # The attempt under way and the last one take a timeout each, where nobody answers.
            self.thread.join(3 * TIMEOUT_SECONDS)
        if self.server:
            stop_server(self.server)

    def _show(self, windows: dict[str, Callable[[Visdom], object]]) -> None:
        """Have windows drawn, together, by these functions."""
        if self.address:
            with self.lock:
                self.windows |= windows
                self.changed |= windows.keys()

    def _draw_changes(self) -> None:
        """Body of the thread: draw what changed every two seconds, and all when it had failed."""
        client, lost = None, False
        while True:
            last = self.closing
            with self.lock:
                changed, self.changed = self.changed, set()
                windows = self.windows.copy()
            try:
                client = client or open_client(self.address, self.number, self.env)
                if "start" in changed:
                    windows["start"](client)
                if changed - {"start"}:
                    client.close("start")
                for window in sorted(changed - {"start"}, key=ORDER.index):
                    windows[window](client)
                if last:
                    client.save([self.env])
                lost = False
            except Exception as error:  # whatever it is, training must not notice
                client = None
                with self.lock:
                    self.changed = set(self.windows)
                if not lost:
                    lost = True
                    warn(f"the dashboard at {self.url} is gone ({error}); going on without it")
            if last:
                return
            self.wake.wait(REDRAW_SECONDS)

    def _draw_curves(self, window: str, client: Visdom) -> None:
        plot = CURVES[window]
        with self.lock:
            series = {name: (list(c.x), list(c.y)) for name, c in self.curves[window].items()}
        longest = max(len(x) for x, _ in series.values())

        def padded(values: list[float]) -> list[float]:
            return values + [np.nan] * (longest - len(values))

        x, y = (np.array([padded(s[i]) for s in series.values()]).T for i in (0, 1))
        options = {
            **layout(window, plot.title),
            "xlabel": "iteration" if plot.kind == "losses" else "epoch",
            "ylabel": plot.label,
            "ytype": "log" if plot.logarithmic else "linear",
            "legend": [name.removeprefix("accuracy ") for name in series],
            "markers": plot.kind == "validation",
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


def layout(window: str, title: str) -> dict:
    """Title and size of a window, as visdom's options."""
    width, height = SIZES[window]
    return {"title": title, "width": width, "height": height}


def draw_start(client: Visdom) -> None:
    """The one window of a program that has nothing to show yet."""
    client.text("nothing so far", win="start", opts=layout("start", "This run"))


def draw_blank(window: str, client: Visdom) -> None:
    """A window in its place before there is anything to show."""
    title = CURVES[window].title if window in CURVES else "Fixed validation batch"
    client.text("nothing so far", win=window, opts=layout(window, title))


def draw_picture(client: Visdom, window: str, title: str, figure: Figure) -> None:
    """A figure that fills its window."""
    width, height = SIZES[window]
    scale = min((width - 10) / figure.get_figwidth(), (height - 30) / figure.get_figheight())
    client.image(as_array(figure, dpi=scale), win=window, opts=layout(window, title))


def draw_table(client: Visdom, window: str, title: str, rows: dict) -> None:
    body = "".join(
        f"<tr><td style='padding-right:1em'>{html.escape(str(k))}</td>"
        f"<td>{html.escape(str(v))}</td></tr>"
        for k, v in rows.items()
    )
    text = f"<table style='font:12px sans-serif'>{body}</table>"
    client.text(text, win=window, opts=layout(window, title))


def environment(folder: Path, dataset: str) -> str:
    """One environment per run: named for the folder, told apart by its full path."""
    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:4]
    name = "".join(c if c.isalnum() or c in "-." else "-" for c in folder.resolve().name[:LONGEST])
    return f"{dataset}-{name}-{digest}"


@contextmanager
def connected(options: Options, process: Process) -> Iterator[Dashboard]:
    """The dashboard of a run for as long as the block runs; the first process alone has one.

    Maps of another method belong to no run: theirs is that of their results.
    """
    folder = options.save_dir if options.maps is None else options.results_dir
    dashboard = connect(
        options.visdom if process.is_first else "off",
        options.visdom_server,
        options.visdom_port,
        environment(folder, options.dataset),
        folder / "dashboard",
        of_run=options.maps is None,
    )
    try:
        yield dashboard
    finally:
        dashboard.close()


def connect(
    mode: str, address: str, number: int, env: str, folder: Path, of_run: bool = True
) -> Dashboard:
    """A dashboard on the server at ``address``, or on one started here where none answers.

    ``mode``: 'off' shows nothing; 'auto' goes on without a server, with a warning, where none can
    be had; 'on' raises UserError then. A server started here keeps its environments in ``folder``,
    which lies in that of the run, or, not ``of_run``, where there is nothing to replay.
    """
    if mode == "off":
        return Dashboard()
    try:
        dashboard = open_dashboard(address, number, env, folder)
    except UserError as error:
        if mode == "on":
            raise
        warn(f"no dashboard: {error}")
        return Dashboard()
    print(f"dashboard: {dashboard.url}")
    saved = folder.parent  # of the run; where it holds weights alone, nothing can be replayed
    weights_alone = any(saved.glob("netG_*.pt")) and not any(saved.glob("metrics_*.jsonl"))
    if dashboard.server and of_run and not weights_alone:
        again = command("-m", "descargan.dashboard", "--replay", saved)
        print(f"  it ends with this program; to see it again: {again}")
    return dashboard


def open_dashboard(
    address: str, number: int, env: str, folder: Path, host: str = "localhost"
) -> Dashboard:
    """As ``connect``, whose server is to be reached on ``host``. Raises UserError without one."""
    if find_spec("visdom") is None:
        raise UserError("visdom is not installed: pip install '.[dashboard]', or --visdom off")
    logging.getLogger("visdom").setLevel(logging.ERROR)
    server = None
    if not answers(address, number):
        if not is_local(address):
            raise UserError(
                f"no visdom server answers at {address}:{number}: start one there, or see "
                "--visdom-server and --visdom-port"
            )
        server = start_server(number, folder, host)
    return Dashboard(address, number, env, server)


def find_history(folder: Path, dataset: str | None = None) -> Run:
    """The run with metrics in ``folder``, or, where there is none, in its ``pretrained``.

    Raises UserError where there is none, or several and no ``dataset`` that tells which.
    """
    for place in (folder, folder / "pretrained"):
        run = find_run(place, dataset, lambda run: run.metrics.is_file())
        if run is not None:
            if place != folder:
                print(f"{folder} holds no run yet: this is the one that comes with the project")
            return run
    raise UserError(f"{folder} holds no metrics of a run: see --replay and --dataset")


def replay(files: Run, dashboard: Dashboard) -> None:
    """Show a run from its options, metrics history and last examples."""
    dashboard.describe(files.read_description())
    for record in files.read_metrics():
        dashboard.add(record)
    if files.examples.is_file():
        dashboard.show_examples(read_examples(files.examples))


def read_examples(path: Path) -> dict[str, np.ndarray]:
    """The translated examples of a run, as training keeps them. Raises UserError: damaged."""
    with stored_arrays(path) as stored:
        columns = dict(stored)
        _ = columns["difference map"]  # which every kind of training draws
        return columns


def replay_until_interrupted(files: Run, number: int, host: str) -> None:
    """Show a run until Ctrl-C. Raises UserError where there is no server to be had."""
    dataset = files.read_description()["options"].get("dataset", files.dataset)
    env = environment(files.folder, dataset)
    with tempfile.TemporaryDirectory() as temporary:
        folder = files.folder / "dashboard"
        if not folder.is_dir():  # a run that had no dashboard is left as it is
            folder = Path(temporary) / "dashboard"
            if files.picture.is_file():
                shutil.copy(files.picture, temporary)
        dashboard = open_dashboard("http://localhost", number, env, folder, host)
        try:
            with contextlib.suppress(KeyboardInterrupt):
                replay(files, dashboard)
                print(f"dashboard: {dashboard.url}\npress Ctrl-C to end", flush=True)
                threading.Event().wait()
        finally:
            dashboard.close()


def build_parser() -> Parser:
    parser = Parser(description="The dashboard without training: replay, and the page's scripts.")
    add = parser.add_mutually_exclusive_group(required=True).add_argument
    add("--replay", type=path, metavar="DIR", help="show the run saved in DIR, until Ctrl-C")
    text = (
        "fetch the page's scripts, once per machine; with DIR, through that folder of npm archives"
    )
    add("--install-assets", type=path, nargs="?", const=True, metavar="DIR", help=text)
    add = parser.add_argument
    text = "of the run to replay, where DIR holds runs of several kinds of data"
    add("--dataset", choices=tuple(KINDS), help=text)
    flags = "--port", "--visdom-port"  # the latter as in main.py
    add(*flags, dest="port", type=port, default=8097, metavar="N", help="default: 8097")
    text = "localhost, or 0.0.0.0 to show it to everyone on the network (default: localhost)"
    add("--host", choices=("localhost", "0.0.0.0"), default="localhost", help=text)
    return parser


def main() -> None:
    options = build_parser().parse_args()
    if options.install_assets is not None:
        archives = None if options.install_assets is True else options.install_assets
        print(f"the scripts of visdom's page are in {install_assets(archives)}")
    else:
        files = find_history(options.replay, options.dataset)
        replay_until_interrupted(files, options.port, options.host)


if __name__ == "__main__":
    sys.exit(run(main))
