"""Explanation: the edges of the backward loop, put into words and numbers."""

from .explanation import Explanation, explain
from .steps import NodeRow, Step, circuit_rows

__all__ = ["Explanation", "NodeRow", "Step", "circuit_rows", "explain"]
