"""Training: data, the loop, and what it leaves."""

from .callbacks import Moment, StopTraining
from .fit import fit
from .history import History

__all__ = ["History", "Moment", "StopTraining", "fit"]
