"""Comparisons by experiment: transfer functions × losses × seeds, trained side by side."""
