"""Charts: curves, heat maps, scatters, histograms and intervals, as SVG and through matplotlib."""

from .chart import Chart
from .make import heat_map, histogram, intervals, lines, scatter

__all__ = ["Chart", "heat_map", "histogram", "intervals", "lines", "scatter"]
