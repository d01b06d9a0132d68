"""DeScarGAN: disease-specific anomaly detection with weak supervision."""

__version__ = "1.0.0"

HEALTHY, DISEASED = 0, 1
CLASS_NAMES = ("healthy", "diseased")
