"""Progress: a moving bar in a terminal, few lines in a log."""

import io
import sys

from descargan import progress
from descargan.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, monkeypatch) -> list[str]:
    monkeypatch.setattr(sys, "stderr", stream)
    bar = progress_bar(range(200), total=200, miniters=1)
    for i in bar:
        bar.set_postfix({"loss": i}, refresh=False)
    return stream.getvalue().replace("\r", "\n").split("\n")


def test_a_log_gets_lines_now_and_then_not_every_picture_of_the_bar(monkeypatch):
    lines = [line for line in shown(io.StringIO(), monkeypatch) if line.strip()]
    assert len(lines) <= 2
    assert lines[-1].startswith("100% 200/200 [")
    assert "loss=199" in lines[-1]


def test_a_log_gets_a_line_when_it_is_due(monkeypatch):
    monkeypatch.setattr(progress, "A_LINE", 0.0)
    assert len([x for x in shown(io.StringIO(), monkeypatch) if x.strip()]) >= 100


def test_a_terminal_gets_a_bar_in_one_line(monkeypatch):
    terminal = Terminal()
    shown(terminal, monkeypatch)
    assert "\r" in terminal.getvalue()
    assert terminal.getvalue().count("\n") == 1
