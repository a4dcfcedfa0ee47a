"""Training runs of the GAN as processes that can be killed: see `killable_runs`."""

import sys
from pathlib import Path

from killable_runs import serve
from small_gan import training_for, write_stores

from gan_lib.train import fit

if __name__ == "__main__":
    training, validation = write_stores(Path(sys.argv[1]))
    serve(lambda folder, changes, ranks: fit(training, folder, training_for(training, **changes), validation, ranks))
