"""DELT in JAX: diversity-driven EarlyLate training for data set distillation (arXiv 2411.19946)."""

__version__ = "0.1.0"
