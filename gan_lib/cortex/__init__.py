"""Cortical radius: how thick the cortex is, per hemisphere, per region and voxel by voxel, from tissue labels.

The study's "cortical radius" has the size of a thickness, and its definition is not published. Ours, in every table:
the volume of the cortex over the area of its middle surface, in mm (`surface`). The map (`thickness`) is the length
of the streamlines of Laplace's equation; its mean is given beside.
"""

from gan_lib.cortex.labels import LabelError
from gan_lib.cortex.radius import CorticalRadius, RadiusConfig, cortical_radius, hemisphere_radius, regional_radius

__all__ = ["CorticalRadius", "LabelError", "RadiusConfig", "cortical_radius", "hemisphere_radius", "regional_radius"]
