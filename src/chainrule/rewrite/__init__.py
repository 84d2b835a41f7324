"""Rewriting: circuits into equal circuits."""

from .functions import recognise
from .gates import close, open
from .rules import RULES, applied

__all__ = ["RULES", "applied", "close", "open", "recognise"]
