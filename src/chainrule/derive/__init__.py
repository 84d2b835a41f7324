"""Derivations: the derivative of a function, symbolic, a line per rule."""

from .ask import derive
from .derivation import Derivation, Part, Step

__all__ = ["Derivation", "Part", "Step", "derive"]
