"""Comparisons by experiment: transfer functions × losses × seeds, trained side by side."""

from .combination import Combination
from .comparison import Comparison, compare
from .presets import PRESETS, Replay, replay

__all__ = ["PRESETS", "Combination", "Comparison", "Replay", "compare", "replay"]
