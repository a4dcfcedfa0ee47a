"""Untrained models of the harmonisation study, small enough for tests, and brains that are known at every point."""

from pathlib import Path

import nibabel
import numpy as np
import torch
from nibabel.affines import apply_affine
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from gan_lib.model_card import CardFacts
from gan_lib.model_folder import write_model
from gan_lib.networks import Generator, MappingNetwork, NetworkConfig, StyleEncoder
from gan_lib.slices import SliceBox
from gan_lib.trained_model import ModelConfig, Site, SliceView, TrainedModel
from study_lib.grid import Grid
from study_lib.intensity import StudyNormaliser

GRID = Grid.isotropic(4.0)  # 46 x 55 x 46
SIZE = (64, 64)
LEAST_BRAIN = 80
CENTRE_MM, RADII_MM = np.array([0.0, -18.0, 12.0]), np.array([62.0, 78.0, 58.0])


def tiny_model(seed: int = 0, identity: bool = False, planes: tuple[str, ...] = ("axial",)) -> TrainedModel:
    """Two sites. `identity`: the generator adds nothing to its input. Else it does something wild, but repeatable."""
    networks = NetworkConfig(sites=2, size=SIZE, width=4, cap=8, style=8, hidden=8, residual=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, encoder, mapping = Generator(networks), StyleEncoder(networks), MappingNetwork(networks)
        torch.nn.init.normal_(generator.head.weight, std=0.0 if identity else 0.05)
    assert not generator.head.bias.any()
    whole = SliceBox(GRID.shape, (0, 0, 0), tuple(GRID.shape[axis] for axis in (2, 1, 0)))
    views = {plane: SliceView(whole.in_plane(plane).padded(size=SIZE), LEAST_BRAIN) for plane in planes}
    rng = np.random.default_rng(seed)
    sites = tuple(
        Site(name, 3, {plane: rng.normal(size=8).astype(np.float32) for plane in planes}, {"vendor": vendor})
        for name, vendor in (("ADNI", "GE"), ("SMC", "Philips"))
    )
    config = ModelConfig(networks, GRID, views, StudyNormaliser(), sites, 10)
    return TrainedModel(config, *(network.requires_grad_(False).eval() for network in (generator, encoder, mapping)))


def write_tiny_model(folder: Path, **changes) -> Path:
    """A tiny model on disk."""
    write_model(folder, tiny_model(**changes), CardFacts("phantom", {"cycle_l1": 0.1}, "held-out subjects"))
    return folder


def brightness(points_mm: np.ndarray) -> np.ndarray:
    """A smooth brain, known everywhere, in the units of some scanner."""
    x, y, z = np.moveaxis(points_mm / np.array([13.0, 17.0, 15.0]), -1, 0)
    return 700 + 180 * np.sin(x) * np.cos(y) + 120 * np.sin(y + z)


def inside(points_mm: np.ndarray, centre_mm: np.ndarray = CENTRE_MM, scale: float = 1.0) -> np.ndarray:
    """An ellipsoid as large as a brain."""
    return (((points_mm - centre_mm) / (scale * RADII_MM)) ** 2).sum(axis=-1) < 1


def brain(
    spacing_mm=(4.0, 4.0, 4.0), codes="RAS", rotation=None, centre_mm=CENTRE_MM, scale=1.0
) -> nibabel.Nifti1Image:
    """A stripped brain on a grid of its own, with a header of its own."""
    turn = np.diag(spacing_mm) if rotation is None else rotation @ np.diag(spacing_mm)
    shape = tuple(int(n) for n in np.ceil(2.25 * scale * RADII_MM / spacing_mm) + 1)
    affine = nibabel.affines.from_matvec(turn, centre_mm - turn @ ((np.array(shape) - 1) / 2))
    points = apply_affine(affine, np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1))
    values = np.where(inside(points, centre_mm, scale), brightness(points), 0).astype(np.float32)
    image = nibabel.Nifti1Image(values, affine)
    orientation = ornt_transform(io_orientation(affine), axcodes2ornt(codes))
    image = image.as_reoriented(orientation)
    image.set_qform(image.affine, code=1)
    image.set_sform(image.affine, code=2)
    image.header.set_xyzt_units("mm", "sec")
    return image


def grid_brain() -> nibabel.Nifti1Image:
    """The brain in the voxels of the models' grid."""
    points = apply_affine(GRID.affine, np.stack(np.meshgrid(*map(np.arange, GRID.shape), indexing="ij"), axis=-1))
    return nibabel.Nifti1Image(np.where(inside(points), brightness(points), 0).astype(np.float32), GRID.affine)
