"""Pre-training runs as processes that can be killed: see `killable_runs`."""

import sys
from dataclasses import replace
from pathlib import Path

from killable_runs import serve
from small_cinp import TRAINING
from small_pairs import halves, people, write_store

from cinp_lib.pretrain import fit

if __name__ == "__main__":
    training, validation = halves(write_store(Path(sys.argv[1]), people()))
    serve(lambda folder, changes, ranks: fit(training, folder, replace(TRAINING, **changes), validation, ranks))
