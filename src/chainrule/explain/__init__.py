"""Explanation: the edges of the backward loop, put into words and numbers."""

from .steps import NodeRow, Step, circuit_rows

__all__ = ["NodeRow", "Step", "circuit_rows"]
