"""What a training costs in time: measured over its first iterations, and said once."""

import time

from descargan.options import Options

SHORT, LONG = 60.0, 2 * 3600.0  # seconds: too short to speak of; too long for a CPU
# What fits a CPU.
SMALL = "--recipe fast --image-size 64"
LEAST = 3  # iterations to measure over
WHOLE = 4  # times what the critic's step alone takes, an iteration takes with the generator's


class Cost:
    """Measures the first iterations of a training of ``length`` iterations.

    The very first is left out, as it builds things up; then the generator's step is among them,
    but for the first ``alone`` iterations, which it takes no part in.
    """

    def __init__(self, options: Options, length: int, on_cpu: bool, alone: int = 0) -> None:
        self.measured = max(options.critic_steps, LEAST)
        self.length, self.on_cpu, self.alone = length, on_cpu, alone
        self._began: tuple[int, float] | None = None

    def after(self, iteration: int) -> str:
        """The sentence, after the iteration that it can be said after; else nothing."""
        now = time.monotonic()
        if self._began is None:
            self._began = iteration, now
        first, began = self._began
        if iteration != first + self.measured:
            return ""
        seconds, left = (now - began) / self.measured, self.length - iteration
        alone = min(max(self.alone - iteration, 0), left)
        whole = seconds * (WHOLE if iteration < self.alone else 1)
        return forecast(seconds * alone + whole * (left - alone), left, self.on_cpu)


def forecast(seconds: float, iterations: int, on_cpu: bool) -> str:
    """That ``iterations`` take so many seconds, and what to do where that is too long."""
    if seconds < SHORT:
        return ""
    each = f"{seconds / iterations:.2g} s each"
    said = f"{iterations} iterations to go, {each}: about {duration(seconds)}"
    if on_cpu and seconds > LONG:
        said += f". On a CPU, {SMALL}, into another --save-dir, takes minutes"
    return said


def duration(seconds: float) -> str:
    """In the unit that people would use."""
    for unit, name in ((86400, "days"), (3600, "hours")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{max(1, round(seconds / 60))} min"
