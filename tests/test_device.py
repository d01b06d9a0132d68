"""Settings of the process."""

import ctypes
import platform
import subprocess
import sys

import pytest
import torch

from descargan.device import autocast, choose_device, enough_memory
from descargan.errors import UserError

CPU = torch.device("cpu")


def has(monkeypatch, **able):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)


@pytest.mark.parametrize("able", ["avx512_bf16", "amx_bf16"])
def test_mixed_precision_on_a_processor_is_bfloat16(monkeypatch, capsys, able):
    has(monkeypatch, **{able: True})
    choose_device("cpu", amp=True)
    with autocast(CPU, enabled=True):
        assert torch.ones(2, 2).mm(torch.ones(2, 2)).dtype == torch.bfloat16
    assert not capsys.readouterr().err


def test_a_processor_without_bfloat16_takes_float32_and_a_warning_says_so(monkeypatch, capsys):
    has(monkeypatch, avx512_bf16=False)
    choose_device("cpu", amp=True)
    with autocast(CPU, enabled=True):
        assert torch.ones(2, 2).mm(torch.ones(2, 2)).dtype == torch.float32
    assert "lacks bfloat16: float32 is taken" in capsys.readouterr().err


def test_without_amp_a_processor_is_not_asked(monkeypatch, capsys):
    has(monkeypatch)
    assert choose_device("cpu") == CPU
    assert not capsys.readouterr().err


def test_full_memory_is_a_sentence():
    with pytest.raises(UserError, match="the memory is full: pass a"), enough_memory():
        torch.empty(2**55, dtype=torch.uint8)


def test_another_error_of_pytorch_is_none_of_memory():
    with pytest.raises(RuntimeError, match="size"), enough_memory():
        torch.ones(2) + torch.ones(3)


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
