"""Notation: circuits written as formulas."""

from .write import Style, number, symbol, write

__all__ = ["Style", "number", "symbol", "write"]
