"""Attacks on harmonised slices: train a classifier, ask it about test slices, and keep both as files.

A finished attack lies in a file that knows what went into it; it is not trained again. What an attack said is a table
of one row per test slice and question: `all` (which site?), or a pair of sites (which of the two?).
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import nn

from gan_lib.site_classifier.examples import SiteSlices
from gan_lib.site_classifier.slice_classifier import SliceClassifier
from gan_lib.site_classifier.texture import Features, features, linear_classifier, pairs_of
from gan_lib.site_classifier.training import ClassifierConfig, Logits, answers, fitted
from study_lib.training import Checkpoint, Checkpoints

ALL = "all"
AGAINST_REAL = "after_fresh_vs_real"
VERSION = 2  # goes up when the same slices and settings give other answers
COLUMNS = ("attack", "question", "seed", "subject", "site", "said")


@dataclass(frozen=True, eq=False)
class Trained:
    """A finished training: its answers on each set of test slices, and the looks at validation slices."""

    names: tuple[str, ...]
    seed: int
    logits: Mapping[str, Logits]
    records: pd.DataFrame
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def network(self) -> nn.Module:
        """The classifier itself, in eval mode on the CPU."""
        if not self.weights:
            raise ValueError("the weights of this attack were not kept; name it in Bench.keep")
        network = SliceClassifier(len(self.names), detail=self.weights["resnet.conv1.weight"].shape[1] > 1)
        network.load_state_dict(dict(self.weights))
        return network.eval()


@dataclass(frozen=True, eq=False)
class Bench:
    """Where attacks are kept, and how all of them are trained."""

    folder: Path
    config: ClassifierConfig
    device: torch.device
    seeds: tuple[int, ...] = (0,)
    pairs_apart: bool = False  # train for every pair anew, as the study does; else read it off the two logits
    keep: tuple[str, ...] = ()  # attacks whose weights are kept

    def attack(
        self,
        name: str,
        slices: SiteSlices,
        others: Mapping[str, SiteSlices] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> pd.DataFrame:
        """What classifiers trained on `slices` say of their test slices, and of those of `others`, by name."""
        tests = {name: slices} | dict(others or {})
        tables = []
        for seed in self.seeds if seeds is None else seeds:
            trained = self.trained(name, slices, tests, seed)
            tables += [said(key, trained.logits[key], tests[key].of_role("test"), seed) for key in tests]
            if self.pairs_apart and len(slices.names) > 2:
                tables = [table[table["question"] == ALL] for table in tables] + self._apart(name, tests, seed)
        return pd.concat(tables, ignore_index=True)

    def trained(self, name: str, slices: SiteSlices, tests: Mapping[str, SiteSlices], seed: int) -> Trained:
        """One training, or what is kept of it."""
        files, key = Checkpoints(self.folder / name), self._key(slices, tests, seed)
        stem, keep_weights = f"seed{seed}", name in self.keep
        if files.has(stem):
            kept = files.load(stem)
            if kept.state["key"] == key and (not keep_weights or kept.state["weights"]):
                return _from_file(kept, slices.names, seed)
        network, records = fitted(slices, self.config, seed, self.device)
        logits = {k: answers(network, s.of_role("test"), self.config.precision) for k, s in tests.items()}
        tensors = {f"logits/{k}": torch.from_numpy(v) for k, v in logits.items()}
        if keep_weights:
            tensors |= {f"network/{k}": v for k, v in network.state_dict().items()}
        state = {"key": key, "records": records, "weights": keep_weights}
        files.save_as(stem, int(records[-1]["step"]), tensors, state)
        return _from_file(files.load(stem), slices.names, seed)

    def _apart(self, name: str, tests: Mapping[str, SiteSlices], seed: int) -> list[pd.DataFrame]:
        tables = []
        for pair in pairs_of(tests[name].names):
            own = {key: slices.of_sites(pair) for key, slices in tests.items()}
            trained = self.trained(f"{name}-{plain_name('-'.join(pair))}", own[name], own, seed)
            found = [said(key, trained.logits[key], own[key].of_role("test"), seed) for key in own]
            tables += [table[table["question"] != ALL] for table in found]
        return tables

    def _key(self, slices: SiteSlices, tests: Mapping[str, SiteSlices], seed: int) -> str:
        digest = hashlib.sha256(json.dumps([VERSION, asdict(self.config), seed, list(tests)]).encode("utf-8"))
        for own in (slices, *tests.values()):
            for column in (own.images, own.labels, own.subjects, own.roles, np.array(own.names)):
                digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()


def against_real(
    bench: Bench, before: SiteSlices, translated: Mapping[str, SiteSlices], seeds: Sequence[int] | None = None
) -> pd.DataFrame:
    """Is it a real scan of the target, or one translated to it? `translated`: all slices, by the target they went to.

    The questions are ordered pairs of sites. Without `pairs_apart` one classifier per target knows its real slices and
    those from every other site, and a pair is read from two of its logits.
    """
    tables = []
    for target, after in translated.items():
        mixed = after.with_site_of(before, target)
        sources = [name for name in mixed.names if name != target]
        sets = [mixed.of_sites((name, target)) for name in sources] if bench.pairs_apart else [mixed]
        for own in sets:
            ending = f"_{plain_name(own.names[0])}" if bench.pairs_apart else ""
            name = f"against_real_{plain_name(target)}{ending}"
            table = bench.attack(name, own, seeds=seeds)
            wanted = {question(pair): pair for pair in pairs_of(own.names) if target in pair}
            table = table[table["question"].isin(list(wanted))]
            asked = {
                key: f"{next(site for site in pair if site != target)} to {target}" for key, pair in wanted.items()
            }
            tables.append(table.assign(attack=AGAINST_REAL, question=table["question"].map(asked)))
    return pd.concat(tables, ignore_index=True)


def linear_attack(name: str, slices: SiteSlices) -> pd.DataFrame:
    """The linear classifier on intensity and texture, every pair of classes apart."""
    values = features(slices)
    tables = [_linear(name, values, slices)]
    if len(slices.names) > 2:
        for pair in pairs_of(slices.names):
            own = np.isin(slices.labels, [slices.names.index(site) for site in pair])
            table = _linear(name, values[own], slices.of_sites(pair))
            tables.append(table[table["question"] != ALL])
    return pd.concat(tables, ignore_index=True)


def said(attack: str, logits: Float[np.ndarray, "slice label"], slices: SiteSlices, seed: int) -> pd.DataFrame:
    """A table of answers: the largest logit of all, and for every pair the larger of its two."""
    if logits.shape != (len(slices), len(slices.names)):
        raise ValueError(f"{attack}: expected logits of shape {(len(slices), len(slices.names))}, got {logits.shape}")
    names, tables = np.array(slices.names), []
    for asked, sites in [(ALL, slices.names), *((question(pair), pair) for pair in pairs_of(slices.names))]:
        columns = [slices.names.index(name) for name in sites]
        own = np.isin(slices.labels, columns)
        chosen = names[np.array(columns)[logits[own][:, columns].argmax(axis=1)]]
        rows = {"attack": attack, "question": asked, "seed": seed, "subject": slices.subjects[own]}
        tables.append(pd.DataFrame(rows | {"site": names[slices.labels[own]], "said": chosen}, columns=list(COLUMNS)))
    return pd.concat(tables, ignore_index=True)


def question(pair: Sequence[str]) -> str:
    """How a table names the question which of two sites it is."""
    return ", ".join(pair)


def _linear(attack: str, values: Features, slices: SiteSlices) -> pd.DataFrame:
    tested = slices.roles == "test"
    model = linear_classifier(values, slices)
    scores = model.decision_function(values[tested])
    logits = scores if scores.ndim > 1 else np.stack([-scores, scores], axis=1)  # two classes have one column
    return said(attack, logits, slices.of_role("test"), seed=0)


def _from_file(kept: Checkpoint, names: tuple[str, ...], seed: int) -> Trained:
    logits = {k.removeprefix("logits/"): v.numpy() for k, v in kept.tensors.items() if k.startswith("logits/")}
    weights = {k.removeprefix("network/"): v for k, v in kept.tensors.items() if k.startswith("network/")}
    return Trained(names, seed, logits, pd.DataFrame(kept.state["records"]), weights)


def plain_name(name: str) -> str:
    """As names of files and of metrics have it."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
