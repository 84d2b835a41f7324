"""What a training run leaves behind: its settings, its model, its history and its report."""

from .config import Settings
from .folder import RunFolder
from .job import Trained, train_table
from .predictor import Predictor, Score

__all__ = ["Predictor", "RunFolder", "Score", "Settings", "Trained", "train_table"]
