"""Families from the ids of parents and households."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def families(subjects: pd.Series, links: Sequence[pd.Series]) -> pd.Series:
    """A family id for each subject: who shares a mother, a father or a family id is of one family.

    Half-siblings have different family ids in some data sets, yet one of them in training and the other in
    test is a leak; so families that touch are joined. The id is that of the family's first subject. Empty
    links join nobody.
    """
    joined = pd.concat([f"{number}:" + link[link != ""] for number, link in enumerate(links)])
    node, _ = pd.factorize(joined)
    person = subjects.index.get_indexer(joined.index)
    size = len(subjects) + (node.max() + 1 if len(node) else 0)
    edges = coo_array((np.ones(len(node)), (person, len(subjects) + node)), shape=(size, size))
    _, label = connected_components(edges, directed=False)
    return subjects.groupby(label[: len(subjects)]).transform("first")
