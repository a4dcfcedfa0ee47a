"""One variant and seed is one job: it trains, is judged, and leaves one small file; finished ones are only read.

    places = Places(Path("outputs/demo/07_cinp_pretraining"), Path("outputs/demo/10_loss_ablation/variants"))
    outcomes = run_all([Job("inc", 0), Job("inc_mim_inm", 0)], places.plan("demo"), places, n_jobs=2)

Stopped anywhere, a job goes on from its last checkpoint. Its file carries a key of everything that it depends on, so
other settings, pairs or code give another outcome, and nothing else does.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from joblib import Parallel, delayed, parallel_config
from tqdm.auto import tqdm

from cinp_lib.ablation_outcomes import Outcome, told
from cinp_lib.ablations import AblationPlan, plan_for, variant
from cinp_lib.embeddings import embed_pairs
from cinp_lib.evaluation import alignment_scores
from cinp_lib.pair_store import PairParts, PairStore, parts_of
from cinp_lib.pretrain import fit, trained_model, training_key
from cinp_lib.uncoupled_pairs import uncoupled_pairs
from study_lib.training import Ranks, pick_device
from study_lib.workflow.digest import modules_digest


@dataclass(frozen=True)
class Job:
    """What is trained once."""

    variant: str
    seed: int

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.variant}-{self.seed}"


@dataclass(frozen=True)
class Places:
    """`pretraining` is read: notebook 07's folder, with pairs to pre-train on and those of the tasks' people."""

    pretraining: Path
    out: Path

    @property
    def pairs(self) -> Path:
        """Of people to pre-train on."""
        return self.pretraining / "pairs"

    @property
    def task_pairs(self) -> Path:
        """Of the people of the tasks."""
        return self.pretraining / "task_pairs"

    def plan(self, profile: str, share: float = 0.0) -> AblationPlan:
        """That of the profile, from the image weights that notebook 07 began with."""
        record = self.pretraining / "run.json"
        told = json.loads(record.read_text(encoding="utf-8"))["parameters"] if record.is_file() else {}
        return plan_for(profile, share, told.get("image_weights", ""))

    def outcome(self, job: Job) -> Path:
        """The file that a job leaves."""
        return self.out / f"{job.name}.json"


def run_all(
    jobs: Sequence[Job], plan: AblationPlan, places: Places, device: str = "auto", n_jobs: int = 1
) -> list[Outcome]:
    """Outcomes in the order of the jobs; what is missing runs side by side, each on one core (on a GPU in turn)."""
    waiting = [job for job in jobs if finished(job, plan, places) is None]
    waiting.sort(key=lambda job: variant(job.variant).pairs != "uncoupled")  # the longest first
    side_by_side = n_jobs if pick_device(device).type == "cpu" else 1
    with parallel_config("loky", inner_max_num_threads=1):
        calls = (delayed(run_job)(job, plan, places, device) for job in waiting)
        done = Parallel(n_jobs=side_by_side, return_as="generator_unordered")(calls)
        list(tqdm(done, total=len(waiting), desc="variants", disable=not waiting))
    return [run_job(job, plan, places, device) for job in jobs]


def run_job(job: Job, plan: AblationPlan, places: Places, device: str = "auto", n_jobs: int = 1) -> Outcome:
    """The outcome of a job; all ranks that `torchrun` started call this alike."""
    with Ranks(device) as ranks:
        if (found := finished(job, plan, places)) is None:
            parts, people = material(job, plan, places, (n_jobs, ranks))
            config = plan.config(job.variant, job.seed)
            folder = places.out / "training" / training_key(config, parts.training)
            records = fit(parts.training, folder, config, parts.validation, ranks)
            for _ in tqdm(records, total=config.records, desc=job.name, unit="record", disable=not ranks.is_first):
                pass
            if ranks.is_first:
                _judge(job, plan, places, (folder, parts, people), ranks).save(places.outcome(job))
            ranks.barrier()
            found = Outcome.load(places.outcome(job))
    return found


def finished(job: Job, plan: AblationPlan, places: Places) -> Outcome | None:
    """The outcome that an earlier call left, if nothing that it depends on has changed since."""
    try:
        outcome = Outcome.load(places.outcome(job))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return outcome if outcome.key == job_key(job, plan, places) else None


def job_key(job: Job, plan: AblationPlan, places: Places) -> str:
    """Names everything that a job's outcome depends on."""
    content = [job.variant, job.seed, plan.content(job.variant, job.seed), modules_digest([__name__])]
    if variant(job.variant).pairs != "uncoupled":
        content += [PairStore.open(folder).digest for folder in (places.pairs, places.task_pairs)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8")).hexdigest()[:16]


def material(job: Job, plan: AblationPlan, places: Places, how: tuple[int, Ranks]) -> tuple[PairParts, PairStore]:
    """What the variant trains on, chooses its state by and is tested on, and the people of the tasks."""
    kind, (n_jobs, ranks) = variant(job.variant).pairs, how
    if kind == "uncoupled":
        return _uncoupled(job, plan, places, n_jobs, ranks)
    parts, people = parts_of(PairStore.open(places.pairs)), PairStore.open(places.task_pairs)
    if kind == "shuffled":
        # Validation too: the state that is kept must not be chosen by true pairs.
        own = {"training": parts.training.shuffled(job.seed), "validation": parts.validation.shuffled(job.seed)}
        parts = replace(parts, **own)
    return parts, people


def _uncoupled(job: Job, plan: AblationPlan, places: Places, n_jobs: int, ranks: Ranks) -> tuple[PairParts, PairStore]:
    """A cohort of its own for each seed, made by the first rank."""
    if plan.uncoupled is None:
        raise ValueError(
            "variant uncoupled: there is no phantom in this profile; choose smoke or demo, or leave it out"
        )
    given = places.out / f"pairs-{job.name}", replace(plan.uncoupled, seed=job.seed), plan.pairs
    if ranks.is_first:
        stores = uncoupled_pairs(*given, n_jobs)
    ranks.barrier()
    if not ranks.is_first:
        stores = uncoupled_pairs(*given, n_jobs)
    return parts_of(stores["pretraining"]), stores["tasks"]


def _judge(
    job: Job, plan: AblationPlan, places: Places, given: tuple[Path, PairParts, PairStore], ranks: Ranks
) -> Outcome:
    """Prompting of the tasks' people, and the alignment of people who did not train."""
    folder, parts, people = given
    model, record = trained_model(folder, plan.config(job.variant, job.seed))
    model = model.to(ranks.device)
    answers = told(embed_pairs(model, people), plan.prompting)
    alignment = alignment_scores(model, parts.test)
    kept = int(record["iteration"])
    return Outcome(job_key(job, plan, places), job.variant, job.seed, plan.iterations, kept, answers, alignment)
