"""Watching a run while it lasts."""
