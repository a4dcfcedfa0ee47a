"""Why a probe finds little, on a phantom: can the traits that a diagnosis moves be read off the features at all?"""

import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cinp_lib.probing import TrainingSpan, UnitRows
from cinp_lib.tasks import Task
from study_lib.phantom.truth import Truth
from study_lib.shapes import Embeddings

PENALTIES = np.geomspace(1e-4, 1e2, 13)  # of rows of about length 1; ridge chooses on its training people
FOLDS = 5


def moved_traits(task: Task, truth: Truth) -> pd.DataFrame:
    """The traits of the anatomy that diagnoses move, one row for each person of the task."""
    number = len(truth.effects()["anatomy_shift"][task.classes[0]])
    return truth.table("anatomy_traits").loc[task.table["subject"]].iloc[:, :number]


def readable_traits(features: Embeddings, traits: pd.DataFrame, seed: int = 0) -> float:
    """Mean over traits of the correlation between truth and what ridge says of people it has not seen."""
    if len(features) != len(traits):
        raise ValueError(f"traits: expected features of {len(traits)} people, got {len(features)}")
    reader = make_pipeline(StandardScaler(), UnitRows(), TrainingSpan(), RidgeCV(PENALTIES))
    truth = traits.to_numpy()
    told = cross_val_predict(reader, features, truth, cv=KFold(FOLDS, shuffle=True, random_state=seed))
    return float(np.mean([np.corrcoef(told[:, k], truth[:, k])[0, 1] for k in range(truth.shape[1])]))
