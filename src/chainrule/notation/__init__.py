"""Notation: circuits written as formulas."""

from .mathml import mathml
from .write import Style, number, symbol, write

__all__ = ["Style", "mathml", "number", "symbol", "write"]
