"""Charts: curves, heat maps, scatters, histograms and intervals, as SVG and through matplotlib."""

from .chart import Chart
from .make import bars, heat_map, histogram, intervals, lines, scatter
from .spark import spark

__all__ = ["Chart", "bars", "heat_map", "histogram", "intervals", "lines", "scatter", "spark"]
