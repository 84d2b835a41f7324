"""Explanation: the edges of the backward loop, put into words and numbers."""

from .exercises import Exercise, exercise
from .explanation import Explanation, explain
from .steps import NodeRow, Step, circuit_rows

__all__ = ["Exercise", "Explanation", "NodeRow", "Step", "circuit_rows", "exercise", "explain"]
