"""Settings of the process."""

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, torch
from descargan.device import speed_up_process
if {fast}: speed_up_process()
for _ in range(2): torch.ones(64, 2**18)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4): torch.ones(64, 2**18)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_memory_of_freed_tensors_is_used_again():
    faults = {
        fast: int(subprocess.check_output([sys.executable, "-c", COUNT.format(fast=fast)]))
        for fast in (False, True)
    }
    assert faults[False] > 1000  # pages asked for anew, of 64 MiB each
    assert faults[True] < faults[False] / 10
