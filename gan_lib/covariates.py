"""Covariates as columns of numbers: what is a number stays one, categories become indicators of all but the first."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from jaxtyping import Float


@dataclass(frozen=True)
class CovariateCode:
    """Names of the covariates, each with its categories; a number has none."""

    levels: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @classmethod
    def of(cls, covariates: pd.DataFrame | None) -> Self:
        """The code of a table; none has no columns."""
        if covariates is None:
            return cls()
        return cls(tuple((str(name), _categories(covariates[name])) for name in covariates.columns))

    def encode(self, covariates: pd.DataFrame | None, n: int) -> Float[np.ndarray, "subject column"]:
        """The columns of `n` subjects; other covariates, unknown categories and missing values are refused."""
        given = [] if covariates is None else [str(name) for name in covariates.columns]
        wanted = [name for name, _ in self.levels]
        if sorted(given) != sorted(wanted) or (covariates is not None and len(covariates) != n):
            rows = 0 if covariates is None else len(covariates)
            raise ValueError(
                f"covariates: expected {', '.join(wanted) or 'none'} of {n} subjects, got "
                f"{', '.join(given) or 'none'} of {rows}; give the same columns for training and for other subjects"
            )
        columns = [_columns(name, covariates[name], known) for name, known in self.levels]
        return np.hstack([np.empty((n, 0)), *columns])


def _categories(column: pd.Series) -> tuple[str, ...]:
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        return ()
    return tuple(sorted(column.dropna().astype(str).unique()))


def _columns(name: str, column: pd.Series, known: tuple[str, ...]) -> np.ndarray:
    unknown = sorted(set(column.dropna().astype(str)) - set(known)) if known else []
    if column.isna().any() or unknown:
        raise ValueError(
            f"covariate {name!r}: {int(column.isna().sum())} missing values, unknown categories "
            f"{', '.join(unknown) or 'none'}; leave these subjects out, or leave the covariate out"
        )
    values = [column.astype(str) == level for level in known[1:]] if known else [column]
    return np.array([np.asarray(value, dtype=float) for value in values]).reshape(len(values), len(column)).T
