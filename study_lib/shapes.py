"""Axis words and array kinds for the annotations of all libraries; they are checked in the tests only.

Words: `x y z` voxel axes; `region` atlas regions; `time` BOLD volumes; `subject` people; `feature` embedding
axis; `batch channel height width` as torch orders slices. A name twice in one signature means one length.
"""

import numpy as np
from jaxtyping import Bool, Float, Float32

Volume = Float32[np.ndarray, "x y z"]
Mask = Bool[np.ndarray, "x y z"]
Affine = Float[np.ndarray, "4 4"]
TimeSeries = Float[np.ndarray, "time region"]
Network = Float[np.ndarray, "region region"]
Networks = Float[np.ndarray, "subject region region"]
Embeddings = Float[np.ndarray, "subject feature"]
Weights = Float[np.ndarray, "draw row"]
