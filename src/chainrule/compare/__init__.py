"""Comparisons by experiment: transfer functions × losses × seeds, trained side by side."""

from .combination import Combination
from .comparison import Comparison, compare

__all__ = ["Combination", "Comparison", "compare"]
