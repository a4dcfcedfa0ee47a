"""Slices of prepared volumes: `SliceStore` keeps them on disk, `SliceSampler` draws training batches from it."""

from gan_lib.slices.box import PLANES, SliceBox
from gan_lib.slices.cache import StoreConfig
from gan_lib.slices.sampler import DrawConfig, SliceBatch, SliceSampler
from gan_lib.slices.store import SliceStore

__all__ = ["PLANES", "DrawConfig", "SliceBatch", "SliceBox", "SliceSampler", "SliceStore", "StoreConfig"]
