"""Standardising features, and filling in what is missing, by the training rows alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ModelFileError, ShapeError, unknown
from .arrays import check_features
from .mapped import BLOCK, blocks, columns

__all__ = ["Impute", "Standardizer"]

Floats = NDArray[np.float64]
Impute = Literal["mean", "median"]


@dataclass(frozen=True, eq=False)
class Standardizer:
    """Columns shifted and scaled to mean 0 and standard deviation 1, as `fit` found them.

    `mean` and `scale` are float64 of shape (d,); the deviation divides by n. Where `fill` is
    given, (d,), NaN in column j is first replaced by fill[j], unless that is NaN itself.

    >>> Standardizer.fit([[1.0, 5.0], [3.0, 5.0]])([[1.0, 5.0], [5.0, 7.0]]).tolist()
    [[-1.0, 0.0], [3.0, 2.0]]
    """

    mean: Floats
    scale: Floats
    fill: Floats | None = None

    @classmethod
    def fit(
        cls, X: object, *, impute: Impute | None = None, keep: ArrayLike | None = None
    ) -> Standardizer:
        """Measure the columns of X, (n, d); one that never changes gets scale 1.

        With `impute`, "mean" or "median", NaN is left out, and that is what will be filled in.
        Columns of which `keep`, (d,), is true get mean 0 and scale 1.

        >>> Standardizer.fit([[1.0, 5.0], [3.0, 5.0]]).scale.tolist()
        [1.0, 1.0]
        >>> Standardizer.fit([[1.0], [3.0], [float("nan")]], impute="mean").fill.tolist()
        [2.0]
        """
        if impute not in (None, "mean", "median"):
            raise unknown("imputation", impute, ("mean", "median"))
        rows = _Rows(X, gaps=impute is not None)
        mean, scale = _moments(rows)
        fill = None
        if impute is not None:
            fill = rows.medians() if impute == "median" else mean.copy()
        if keep is not None:
            kept = np.asarray(keep, dtype=bool)
            mean[kept], scale[kept] = 0.0, 1.0
        return cls(mean, scale, fill)

    @classmethod
    def of(cls, table: Any, impute: Impute = "mean") -> Standardizer:
        """Measure a table's numbers: give the training part only.

        Features that are 0 or 1 (categories, "is missing") stay as they are. Missing numbers will
        be filled in with the mean of those known, or their median, where the schema allows gaps.

        >>> from chainrule.data import load_dataset
        >>> Standardizer.of(load_dataset("iris")).fill is None
        True
        """
        schema = table.schema
        gaps = any(column.missing for column in schema.columns)
        return cls.fit(table.features, impute=impute if gaps else None, keep=schema.marks)

    def __call__(self, X: object) -> NDArray[np.floating[Any]]:
        """(X - mean) / scale, in a new array of X's shape (n, d) and float dtype.

        ShapeError where X has another number of columns; DataError as in check_features.

        >>> Standardizer(np.array([1.0]), np.array([2.0]))([[5.0]]).tolist()
        [[2.0]]
        """
        if self.fill is not None:
            X = _filled(X, self.fill)
        rows = check_features(X)
        if rows.shape[1] != len(self.mean):
            raise ShapeError(
                f"X has {rows.shape[1]} columns, but the standardizer was fitted to "
                f"{len(self.mean)}; give the same columns"
            )
        return ((rows - self.mean) / self.scale).astype(rows.dtype, copy=False)

    def to_json(self) -> dict[str, object]:
        """The lists of numbers, for a model file; exact when read back.

        >>> Standardizer(np.array([1.0]), np.array([2.0])).to_json()
        {'mean': [1.0], 'scale': [2.0]}
        """
        data: dict[str, object] = {"mean": self.mean.tolist(), "scale": self.scale.tolist()}
        return data if self.fill is None else {**data, "fill": self.fill.tolist()}

    @classmethod
    def from_json(cls, data: object) -> Standardizer:
        """The standardizer that `to_json` wrote; ModelFileError where it is anything else.

        >>> Standardizer.from_json({"mean": [1.0], "scale": [2.0]})([[5.0]]).tolist()
        [[2.0]]
        """
        if not isinstance(data, dict) or set(data) - {"fill"} != {"mean", "scale"}:
            raise _damaged("does not hold exactly 'mean', 'scale'")
        mean, scale = (_stored(data[key], key) for key in ("mean", "scale"))
        fill = _stored(data["fill"], "fill") if "fill" in data else None
        if len(mean) != len(scale):
            raise _damaged(f"has {len(mean)} means and {len(scale)} scales")
        if fill is not None and len(fill) != len(mean):
            raise _damaged(f"has {len(mean)} means and {len(fill)} values to fill in")
        if not (scale > 0).all():
            raise _damaged("has a scale that is not positive")
        return cls(mean, scale, fill)


class _Rows:
    """The rows of X in blocks, checked; NaN allowed where gaps are."""

    def __init__(self, X: Any, *, gaps: bool) -> None:
        large = isinstance(X, np.ndarray) and X.ndim == 2 and X.size > BLOCK
        self._gaps = gaps
        self._X: Any = X if large else self._checked(X)
        self._large = large

    def _checked(self, X: object) -> Floats:
        array = np.array(X, dtype=np.float64) if self._gaps else None
        if array is None:
            return check_features(X).astype(np.float64, copy=False)
        check_features(np.nan_to_num(array, nan=0.0, posinf=np.inf, neginf=-np.inf))
        return array

    def __iter__(self) -> Iterator[Floats]:
        if not self._large:
            yield self._X
            return
        for part in blocks(self._X):
            yield self._checked(part)

    def medians(self) -> Floats:
        return np.array([_median(column) for column in columns(self._X)])


def _median(column: Floats) -> float:
    known = column[~np.isnan(column)]
    return float(np.median(known)) if len(known) else 0.0


def _moments(rows: _Rows) -> tuple[Floats, Floats]:
    """Mean and deviation of each column, without NaN; 0 and 1 where there is nothing else."""
    # In units of the largest value nothing overflows, tiny values keep their spread, and
    # a column that never changes is exactly ±1: its deviation is exactly 0.
    unit = np.max([np.fmax.reduce(np.abs(part), axis=0) for part in rows], axis=0, initial=0.0)
    unit[~(unit > 0)] = 1.0
    known = np.sum([(~np.isnan(part)).sum(axis=0) for part in rows], axis=0)
    known = np.maximum(known, 1)
    mean = np.sum([np.nansum(part / unit, axis=0) for part in rows], axis=0) / known
    squares = np.sum([np.nansum((part / unit - mean) ** 2, axis=0) for part in rows], axis=0)
    scale = unit * np.sqrt(squares / known)
    scale[~(scale > 0)] = 1.0
    return unit * mean, scale


def _filled(X: object, fill: Floats) -> Any:
    """X with NaN replaced column by column, where there is something to put in its place."""
    array = np.asarray(X)
    if array.ndim != 2 or array.dtype.kind != "f" or array.shape[1] != len(fill):
        return X
    gaps = np.isnan(array)
    return np.where(gaps, fill.astype(array.dtype), array) if gaps.any() else array


def _damaged(fault: str) -> ModelFileError:
    return ModelFileError(f"standardizer {fault}; the model file is damaged or was altered")


def _stored(data: object, key: str) -> Floats:
    """A non-empty list of finite numbers from JSON, as float64."""
    if not isinstance(data, list) or not data:
        raise _damaged(f"{key} is not a list of at least one number")
    try:
        numbers = np.array([_finite(value) for value in data])
    except (TypeError, ValueError, OverflowError):
        raise _damaged(f"{key} holds an entry that is not a finite number") from None
    return numbers


def _finite(value: object) -> float:
    if type(value) not in (int, float) or not np.isfinite(float(value)):  # type: ignore[arg-type]
        raise ValueError
    return float(value)  # type: ignore[arg-type]
