"""DeScarGAN: disease-specific anomaly detection with weak supervision.

>>> import descargan
>>> net = descargan.load("save_nets/pretrained")
>>> result = net(array)
"""

__version__ = "1.9.1"
__all__ = ["CLASS_NAMES", "DISEASED", "HEALTHY", "load", "test", "train"]

HEALTHY, DISEASED = 0, 1
CLASS_NAMES = ("healthy", "diseased")


def __getattr__(name: str) -> object:
    """The functions of the API, imported when they are first asked for: they bring PyTorch."""
    if name in ("load", "test", "train"):
        from descargan import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
