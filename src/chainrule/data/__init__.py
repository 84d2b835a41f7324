"""Tables to learn from: bundled datasets, files, and what their columns mean."""

from .batches import Batches
from .table import (
    BUNDLED,
    Column,
    Schema,
    Sheet,
    Standardizer,
    Table,
    check_features,
    check_labels,
    load_dataset,
    read_csv,
    read_features,
    read_sheet,
    read_table,
    split,
)

__all__ = [
    "BUNDLED",
    "Batches",
    "Column",
    "Schema",
    "Sheet",
    "Standardizer",
    "Table",
    "check_features",
    "check_labels",
    "load_dataset",
    "read_csv",
    "read_features",
    "read_sheet",
    "read_table",
    "split",
]
