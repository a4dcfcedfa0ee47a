"""What embeddings of unseen people are worth: retrieval, within site too, and what they know of the scanner."""

from cinp_lib.embeddings import PairEmbeddings, embed_pairs
from cinp_lib.model import Cinp
from cinp_lib.pair_store import PairStore
from cinp_lib.retrieval import Retrieval, age_bands, retrieval
from cinp_lib.site_probe import FOLDS, site_probe


def alignment_scores(model: Cinp, store: PairStore) -> dict[str, float]:
    """Named scores of one scan for each person; those that the data do not allow are left out."""
    return scores_of(embed_pairs(model, store.one_per_subject()))


def scores_of(embedded: PairEmbeddings) -> dict[str, float]:
    """The same of embeddings at hand, one row for each person."""
    table = embedded.table
    found = retrieval(embedded.images, embedded.networks)
    scores = {"retrieval_r1": found.r1, "retrieval_gallery": len(embedded), "retrieval_r1_chance": found.chance}
    scores |= {"retrieval_reciprocal_rank": found.mean_reciprocal_rank}
    for name, own in strata(embedded).items():
        scores |= {f"retrieval_r1_within_{name}": own.r1, f"retrieval_r1_within_{name}_chance": own.chance}
    counts = table["site"].value_counts()
    if len(counts) > 1 and counts.min() >= FOLDS:
        probe = site_probe(embedded.images, table["site"], table["subject"], table["family"])
        scores |= {"site_probe_balanced_accuracy": probe.balanced_accuracy, "site_probe_chance": probe.chance}
    return scores


def strata(embedded: PairEmbeddings) -> dict[str, Retrieval]:
    """Retrieval among people of the same site, of the same sex, and of about the same age."""
    table = embedded.table
    groups = {"site": table["site"], "sex": table["sex"], "age": age_bands(table["age_years"])}
    return {
        name: retrieval(embedded.images, embedded.networks, own)
        for name, own in groups.items()
        if len(set(own)) < len(table)
    }
