"""A run as one HTML page: what was learnt, how well, how it went, and from what."""

from .build import charts, report, save_charts

__all__ = ["charts", "report", "save_charts"]
