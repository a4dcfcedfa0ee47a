"""What can be known without any scan: age, sex and site. Whoever is not better has learned nothing of the brain."""

import numpy as np
import pandas as pd
from sklearn.base import TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from cinp_lib.folds import Method
from cinp_lib.probing import ProbeConfig, linear_probe
from cinp_lib.tasks import Task

NUMBERS, WORDS = ["age_years"], ["sex", "site"]


def phenotype(task: Task, config: ProbeConfig | None = None) -> Method:
    """A linear classifier of them; an unknown age counts as the training part's median."""
    return linear_probe(phenotypes(task), task, config, preparation())


def phenotypes(task: Task) -> pd.DataFrame:
    """The columns, as they are in the task's table."""
    if missing := [name for name in (*NUMBERS, *WORDS) if name not in task.table]:
        raise KeyError(f"phenotype: the table lacks {', '.join(missing)}; expected a manifest's columns")
    return task.table[[*NUMBERS, *WORDS]].astype(dict.fromkeys(NUMBERS, float))


def preparation() -> TransformerMixin:
    """Ages standardised, words as indicators; a site that nobody of the training part is from is none of them."""
    ages = make_pipeline(SimpleImputer(strategy="median", missing_values=np.nan), StandardScaler())
    return ColumnTransformer(
        [("ages", ages, NUMBERS), ("words", OneHotEncoder(handle_unknown="ignore"), WORDS)], sparse_threshold=0
    )
