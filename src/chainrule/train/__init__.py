"""Training: data, the loop, and what it leaves."""

from .callbacks import Moment, StopTraining
from .checkpoint import Checkpoint
from .fit import fit
from .history import History

__all__ = ["Checkpoint", "History", "Moment", "StopTraining", "fit"]
