"""Pages: the HTML shell that every report stands in, one self-contained file without a request."""

from .shell import escape, formulas, page, script_data

__all__ = ["escape", "formulas", "page", "script_data"]
