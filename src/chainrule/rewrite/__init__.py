"""Rewriting: circuits into equal circuits."""

from .gates import close, open

__all__ = ["close", "open"]
