"""Settings of the process."""

import ctypes
import platform
import subprocess
import sys

import pytest

MAPPED = """
import ctypes, torch
from descargan.device import speed_up_process
if {fast}: speed_up_process()
class Info(ctypes.Structure):
    _fields_ = [(f"field{{i}}", ctypes.c_size_t) for i in range(10)]
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
before = libc.mallinfo2().field4
image = torch.ones(64, 2**18)
print(libc.mallinfo2().field4 - before)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="a setting of glibc, which tells of it from 2.33 on",
)
def test_memory_of_large_tensors_is_not_given_back_to_the_kernel():
    mapped = {
        fast: int(subprocess.check_output([sys.executable, "-c", MAPPED.format(fast=fast)]))
        for fast in (False, True)
    }
    assert mapped[False] >= 64 << 20  # bytes of a mapping of its own, gone when it is freed
    assert mapped[True] == 0
