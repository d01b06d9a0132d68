"""The device that everything runs on, and the settings of the process that make it fast."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from descargan.distributed import local_rank
from descargan.errors import UserError, warn

# Parameters of glibc's mallopt.
TRIM_THRESHOLD, MMAP_MAX = -1, -4


def choose_device(name: str, amp: bool = False) -> torch.device:
    """The device for --device, or for a name of PyTorch's, with a warning where ``amp`` is no use.

    Raises UserError where there is none of that name.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device {name!r} is unknown: auto, cpu, cuda and cuda:1 are not") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {name} needs a CUDA device, and PyTorch finds none: pass cpu")
    if name == "cuda":
        device = torch.device(name, local_rank())
    if amp and not has_half_precision(device):
        warn("--amp would be slower on this processor, which lacks bfloat16: float32 is taken")
    return device


@contextmanager
def enough_memory() -> Iterator[None]:
    """Turn what PyTorch says of a full GPU, or of full memory, into a UserError."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            "the memory of the GPU is full: pass a smaller --batch-size or --image-size, or --amp, "
            "or end what else runs on it"
        ) from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" not in str(error):
            raise
        raise UserError(
            "the memory is full: pass a smaller --batch-size or --image-size, or end what else runs"
        ) from error


def speed_up_process(tf32: bool = False) -> None:
    """Settings of the whole process that change the speed, and with TF32 the precision."""
    torch.set_flush_denormal(True)  # vanishing activations would slow the CPU down many times
    keep_freed_memory()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True  # the sizes of the images stay the same


def keep_freed_memory() -> None:
    """Have glibc keep the memory of freed tensors for the next ones.

    By default it gives tensors of 32 MiB and more back to the kernel and asks for them anew, which
    writes zeros into every page: a ReLU of such a tensor takes five times as long. Nothing happens
    where the C library is another.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, 2**31 - 1)


def autocast(device: torch.device, enabled: bool) -> torch.autocast:
    """Mixed precision, where ``enabled`` and the device has it."""
    enabled = enabled and has_half_precision(device)
    return torch.autocast(device.type, dtype=half_precision(device), enabled=enabled)


def has_half_precision(device: torch.device) -> bool:
    """Whether a device computes in half precision itself: a GPU, or AVX-512 BF16 or AMX."""
    if device.type != "cpu":
        return True
    able = torch.cpu.get_capabilities()
    return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def half_precision(device: torch.device) -> torch.dtype:
    """bfloat16, or float16 on GPUs that lack it."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16
