"""Training: data, the loop, and what it leaves."""

from .callbacks import Moment, StopTraining
from .checkpoint import Checkpoint
from .finder import LRFind, lr_find
from .fit import fit
from .history import History
from .stopping import EarlyStopping, ReduceLROnPlateau

__all__ = [
    "Checkpoint",
    "EarlyStopping",
    "History",
    "LRFind",
    "Moment",
    "ReduceLROnPlateau",
    "StopTraining",
    "fit",
    "lr_find",
]
