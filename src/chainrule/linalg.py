"""Linear algebra under NumPy's names: `chainrule.linalg.norm`."""

from .ops.linalg import norm

__all__ = ["norm"]
