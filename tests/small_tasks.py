"""Embeddings of people of the diagnostic tasks, drawn from traits that a disorder shifts, for tests."""

import numpy as np
import pandas as pd

from cinp_lib.embeddings import PairEmbeddings

CLASSES = {"abide": ("control", "autism"), "srpbs": ("control", "depression", "schizophrenia")}


def embeddings(
    number: int = 90, shift: float = 0.8, coupled: bool = True, seed: int = 0, feature: int = 12
) -> PairEmbeddings:
    """`number` people for each of two tasks. Not coupled: images know nothing of the disorder, networks do."""
    rng = np.random.default_rng(seed)
    mixing, tables, images, networks = rng.normal(size=(6, feature)), [], [], []
    for task, classes in CLASSES.items():
        y = rng.permutation(np.arange(number) % len(classes))
        signs = np.vstack([np.zeros(6), rng.choice([-1.0, 1.0], (len(classes) - 1, 6))])
        traits = rng.normal(size=(number, 6)) + shift * signs[y]
        names = [f"{task}{k:03d}" for k in range(number)]
        people = {"subject": names, "family": names, "session": "", "cohort": f"phantom-{task}", "role": "unassigned"}
        people |= {"site": np.array(["A", "B"])[rng.integers(0, 2, number)], "sex": "F", "age_years": 20.0}
        tables.append(pd.DataFrame(people | {"diagnosis": np.array(classes)[y]}))
        seen = traits if coupled else rng.normal(size=traits.shape)
        images.append(seen @ mixing + 0.5 * rng.normal(size=(number, feature)))
        networks.append(traits @ mixing + 0.5 * rng.normal(size=(number, feature)))
    unit = [np.concatenate(both) for both in (images, networks)]
    unit = [(rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32) for rows in unit]
    return PairEmbeddings(*unit, pd.concat(tables, ignore_index=True))
