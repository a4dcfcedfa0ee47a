"""Network prompting as a study: references from the training part, choices on validation, test people asked once.

studies = prompt_study(PairEmbeddings.load("outputs/demo/07_cinp_pretraining/tasks"), PLANS["demo"])
print(studies["abide"].answers["prompt"].interval())
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from sklearn.preprocessing import StandardScaler

from cinp_lib.embeddings import PairEmbeddings
from cinp_lib.folds import Fold, repeated_folds
from cinp_lib.probing import ProbeConfig, fitted_probe
from cinp_lib.prompt_answers import Answers, pooled
from cinp_lib.prompting import NetworkPromptClassifier
from cinp_lib.tasks import Task, tasks_of
from study_lib.phantom.spec import CohortSpec, spec_for
from study_lib.shapes import Embeddings


@dataclass(frozen=True)
class PromptPlan:
    """What is tried. A cell with fewer networks in a class than subsets is left out of the grid."""

    fraction: float = 0.1  # of the headline; the study's
    fractions: tuple[float, ...] = (0.1, 0.5, 1.0)
    subsets: tuple[int, ...] = (1, 2, 5, 10)  # r; the study's is not known
    repeats: int = 20  # of 7:2:1, so that nearly everybody is tested
    draws: int = 100
    probe_draws: int = 10  # a probe is fitted anew in each

    def __post_init__(self) -> None:
        if self.fraction not in self.fractions:
            raise ValueError(f"PromptPlan.fraction: expected one of {self.fractions}, got {self.fraction}")
        if not 1 <= self.probe_draws <= self.draws:
            raise ValueError(f"PromptPlan: expected 1 <= probe_draws <= draws, got {self.probe_draws}, {self.draws}")

    @property
    def headline(self) -> "PromptPlan":
        """The same without other shares of the networks."""
        return replace(self, fractions=(self.fraction,))


PLANS = {
    "smoke": PromptPlan(repeats=5, subsets=(1, 2)),
    "demo": PromptPlan(),
    "paper": PromptPlan(repeats=50, draws=200, probe_draws=20),
}


# A third as many people for each task as the cohort has: a control takes a minute, not four.
_CONTROL_PEOPLE = {"smoke": 24, "demo": 100}


def control_spec(profile: str, seed: int) -> CohortSpec:
    """An uncoupled phantom of task people, with region series instead of BOLD; of the others there are few."""
    alone = {"per_site": 0, "travelling": 0, "pretraining": 8, "bold_per_cohort": 0, "coupling": 0.0}
    return spec_for(profile, **alone, per_task=_CONTROL_PEOPLE[profile], seed=seed)


@dataclass(frozen=True, eq=False)
class PromptStudy:
    """`grid` is Table 3 on validation people; `answers` are test people's by method; `chosen` has r of every fold."""

    task: Task
    folds: list[Fold]
    grid: pd.DataFrame
    answers: dict[str, Answers]
    chosen: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Material:
    """Rows of one task: everybody's image, and the network of whoever has one."""

    task: Task
    images: Embeddings
    networks: Embeddings

    @classmethod
    def of(cls, task: Task, embeddings: PairEmbeddings) -> "Material":
        """The task's rows of embeddings of more people."""
        return cls(task, embeddings.images[task.places], embeddings.networks[task.places])

    @property
    def families(self) -> np.ndarray:
        """Shared by a person's sessions and relatives."""
        return self.task.table["family"].to_numpy(str)

    def references(self, part: np.ndarray) -> np.ndarray:
        """People of a part who have a network."""
        return part[np.isfinite(self.networks[part]).all(axis=1)]

    def answers(self, part: np.ndarray, fold: Fold, scores: np.ndarray) -> Answers:
        """Scores of the people of a part, with their names."""
        people = {
            "fold": fold.name,
            "subject": self.task.table["subject"].to_numpy(str)[part],
            "label": self.task.y[part],
        }
        return Answers(self.task.classes, pd.DataFrame(people), scores.astype(np.float32))


def prompt_study(embeddings: PairEmbeddings, plan: PromptPlan, seed: int = 0) -> dict[str, PromptStudy]:
    """Every task whose people are among these embeddings."""
    tasks = tasks_of(embeddings.table).values()
    return {task.name: study_task(Material.of(task, embeddings), plan, seed) for task in tasks}


def study_task(material: Material, plan: PromptPlan, seed: int = 0) -> PromptStudy:
    """One task: all cells of the grid on validation, then what was chosen, and its rivals, on test people."""
    drawn, cells, answers, chosen = drawn_folds(material.task, plan, seed), {}, {}, []
    for fold, state in drawn:
        tried = validation_cells(material, fold, plan, state)
        for cell, own in tried.items():
            cells.setdefault(cell, []).append(own)
        best = {pair: best_subsets(tried, *pair) for pair in dict.fromkeys((cell[0], cell[2]) for cell in tried)}
        chosen += [{"fold": fold.name, "fraction": f, "unit": unit, "r": r} for (f, unit), r in best.items()]
        for method, own in held_out_answers(material, fold, plan, state, best).items():
            answers.setdefault(method, []).append(own)
    folds, pools = [fold for fold, _ in drawn], {method: pooled(own) for method, own in answers.items()}
    return PromptStudy(material.task, folds, grid_table(cells, material), pools, pd.DataFrame(chosen))


def drawn_folds(task: Task, plan: PromptPlan, seed: int = 0) -> list[tuple[Fold, int]]:
    """Folds, each with the random state of its draws: one for all methods, so that they refer to the same people."""
    folds = repeated_folds(task, plan.repeats, seed)
    return [(fold, int(np.random.default_rng([seed, k]).integers(2**31))) for k, fold in enumerate(folds)]


Cell = tuple[float, int, bool]  # fraction, r, whether references get length 1


def validation_cells(material: Material, fold: Fold, plan: PromptPlan, state: int) -> dict[Cell, Answers]:
    """What every cell of the grid tells validation people."""
    found = {}
    for fraction in plan.fractions:
        for r in plan.subsets:
            if r > fewest_networks(material, fold, fraction):
                continue
            for unit in (False, True):
                classifier = prompt(material, fold, (fraction, r, unit), plan.draws, state)
                found[fraction, r, unit] = asked(classifier, material, fold.validation, fold)
    return found


def best_subsets(tried: Mapping[Cell, Answers], fraction: float, unit: bool) -> int:
    """r with the highest mean balanced accuracy over draws; of equal ones the smallest."""
    own = {r: tried[f, r, u].over_draws().mean() for f, r, u in tried if f == fraction and u == unit}
    return min(own, key=lambda r: (-round(own[r], 9), r))


def held_out_answers(
    material: Material, fold: Fold, plan: PromptPlan, state: int, best: Mapping[tuple[float, bool], int]
) -> dict[str, Answers]:
    """What test people are told: by prompting with the chosen r, and by image classifiers given the same labels."""
    found = {}
    for (fraction, unit), r in best.items():
        if unit and fraction != plan.fraction:
            continue
        name = "prompt_unit" if unit else method_name("prompt", fraction, plan)
        classifier = prompt(material, fold, (fraction, r, unit), plan.draws, state)
        found[name] = asked(classifier, material, fold.test, fold)
        if not unit and fraction in (plan.fraction, 1):
            found[method_name("prompt_centred", fraction, plan)] = asked(
                classifier, centred(material, fold), fold.test, fold
            )
            found[method_name("centroid", fraction, plan)] = nearest_centroid(material, fold, classifier)
            draws = 1 if fraction == 1 else plan.probe_draws
            found[method_name("probe", fraction, plan)] = probe_of_few(material, fold, classifier, draws)
    return found


def headline(material: Material, plan: PromptPlan, seed: int = 0) -> Answers:
    """Prompting at the plan's fraction, of all folds."""
    found = []
    for fold, state in drawn_folds(material.task, plan, seed):
        tried = validation_cells(material, fold, plan.headline, state)
        r = best_subsets(tried, plan.fraction, unit=False)
        classifier = prompt(material, fold, (plan.fraction, r, False), plan.draws, state)
        found.append(asked(classifier, material, fold.test, fold))
    return pooled(found)


def method_name(stem: str, fraction: float, plan: PromptPlan) -> str:
    """`prompt` with the headline's share of labels, `prompt_50` with half of them."""
    return stem if fraction == plan.fraction else f"{stem}_{100 * fraction:.0f}"


def prompt(material: Material, fold: Fold, cell: Cell, draws: int, state: int) -> NetworkPromptClassifier:
    """Fitted on networks of the training part."""
    references, (fraction, r, unit) = material.references(fold.training), cell
    classifier = NetworkPromptClassifier(r, fraction, draws, state, unit_references=unit)
    own = material.networks[references], material.task.y[references]
    return classifier.fit(*own, groups=material.families[references])


def asked(classifier: NetworkPromptClassifier, material: Material, part: np.ndarray, fold: Fold) -> Answers:
    """What prompting tells the people of a part."""
    scores = classifier.draw_scores(material.images[part], groups=material.families[part])
    return material.answers(part, fold, scores)


def centred(material: Material, fold: Fold) -> Material:
    """Images less the mean of the training part's: where two classes are equally near is then amid the people.

    Not the study's: its rule has no threshold of its own, and it asks for no images to compare with.
    """
    return replace(material, images=material.images - material.images[fold.training].mean(axis=0))


def nearest_centroid(material: Material, fold: Fold, prompted: NetworkPromptClassifier) -> Answers:
    """Nearest mean of image embeddings, where prompting has means of networks of the very same people."""
    references = material.references(fold.training)
    images = NetworkPromptClassifier(**prompted.get_params()).fit(
        material.images[references], material.task.y[references]
    )
    centroids = images.prompts_
    # -|v - c|^2 without |v|^2, which is the same for all classes
    scores = 2 * material.images[fold.test] @ centroids.transpose(0, 2, 1) - (centroids**2).sum(2)[:, None]
    return material.answers(fold.test, fold, scores)


def probe_of_few(material: Material, fold: Fold, prompted: NetworkPromptClassifier, draws: int) -> Answers:
    """A linear support vector machine on images of the very same people."""
    references, scores = material.references(fold.training), []
    for draw in range(draws):
        few = Fold(fold.name, references[prompted.drawn(draw)], fold.validation, fold.test)
        made = fitted_probe(material.images, material.task.y, few, ProbeConfig(), StandardScaler())[1]
        scores.append(made.test)
    return material.answers(fold.test, fold, np.array(scores))


def fixed_answers(task: Task, folds: Sequence[Fold], predictions: Sequence[str]) -> Answers:
    """Answers of who tells every person the same in all folds, such as the oracle; `predictions` are class names."""
    material = Material(task, np.empty((len(task), 0)), np.empty((len(task), 0)))
    told = (np.asarray(predictions)[:, None] == np.array(task.classes)).astype(float)
    return pooled([material.answers(fold.test, fold, told[None, fold.test]) for fold in folds])


def fewest_networks(material: Material, fold: Fold, fraction: float) -> int:
    """How many networks the smallest class has at this fraction."""
    counts = np.bincount(material.task.y[material.references(fold.training)], minlength=len(material.task.classes))
    return int(np.ceil(fraction * counts.min() - 1e-9))


def grid_table(cells: Mapping[Cell, Sequence[Answers]], material: Material) -> pd.DataFrame:
    """Table 3: balanced accuracy on validation people, and the middle 95 % of draws."""
    rows = []
    for (fraction, r, unit), own in cells.items():
        answers = pooled(own)
        value, (low, high) = answers.value(), answers.draw_limits()
        rows.append(
            {"task": material.task.name, "fraction": fraction, "r": r, "references": "length 1" if unit else "mean"}
            | {"folds": len(own), "balanced_accuracy": value}
            | {"draws": len(answers.scores), "draws_low": low, "draws_high": high, "subjects": answers.subjects}
        )
    return pd.DataFrame(rows)
