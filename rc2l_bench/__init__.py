"""Semi-supervised semantic segmentation, compared fairly."""

__version__ = "0.1.0"
