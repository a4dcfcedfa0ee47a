"""Harmonise one T1-weighted volume: nibabel image in, nibabel image out, to a training site or to a reference image.

    harmonizer = Harmonizer.load("outputs/demo/03_gan_harmonization/model")
    harmonised = harmonizer.harmonize(image, target="ADNI", mask=mask)

The output is float32 in the study's normalised units: [0, 1] inside the brain mask and exactly 0 outside, whatever
units the scanner had. Shape, affine, codes, zooms and units of length are those of the input.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from nibabel.nifti1 import Nifti1Image

from gan_lib.model_folder import read_model
from gan_lib.placement import Detail, PlacedScan, check_detail, place, shifted, to_native
from gan_lib.slices import SliceBox
from gan_lib.trained_model import SliceView, TrainedModel
from gan_lib.translation import Stack, Style, full_slices, translate_stack, translate_volume, volume_style
from study_lib.shapes import Mask, Volume
from study_lib.training import pick_device
from study_lib.volume import VolumeError, image_like

# Slices of a reference on which the branches of the style encoder are compared.
COMPARED_SLICES = 12


@dataclass(frozen=True)
class HarmonizeConfig:
    """How volumes are harmonised; the results of a change of `batch_size` differ by rounding only.

    `detail`: `native` gives back the detail that the model's grid had lost of the scan, `grid` interpolates (see
    `gan_lib.placement.to_native`). A model of 2 mm slices knows nothing of finer structure, and interpolation takes it
    away: on the phantom's heads at 1 mm, with a perfect translation at 2 mm, the error of `native` was 36 to 72 % of
    that of `grid`.
    """

    detail: Detail = "native"
    planes: tuple[str, ...] | None = None  # several: the mean of their results; None = the model's first
    batch_size: int = 16
    reference_site: str | None = None  # whose branch reads a reference; None = the one that fits it best

    def __post_init__(self) -> None:
        check_detail(self.detail)
        if self.batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1 slice, got {self.batch_size}")


@dataclass(frozen=True, eq=False)
class TargetStyle:
    """One style per plane, and in words where it comes from."""

    name: str
    planes: dict[str, Style]


@dataclass(frozen=True, eq=False)
class Harmonised:
    """`image` is the result; `before` the input in the same units and voxels; `mask` its brain."""

    image: Nifti1Image
    before: Volume
    mask: Mask
    style: TargetStyle
    notes: tuple[str, ...]

    @property
    def after(self) -> Volume:
        """The voxels of the result."""
        return np.asarray(self.image.dataobj).reshape(self.before.shape)

    def difference(self) -> Nifti1Image:
        """After minus before, on the grid of the input."""
        return image_like((self.after - self.before).reshape(self.image.shape), self.image)


class Harmonizer:
    """Translates volumes with one trained model. `sites` are its possible targets; the source may be any site."""

    def __init__(self, model: TrainedModel, config: HarmonizeConfig | None = None) -> None:
        self.model, self.config = model, config or HarmonizeConfig()
        self.planes = self._checked_planes(self.config.planes)

    @classmethod
    def load(cls, folder: str | Path, config: HarmonizeConfig | None = None, device: str = "auto") -> Self:
        """Read a model folder; no code in it is run. `device`: auto, cpu, cuda or cuda:<number>."""
        return cls(read_model(folder, pick_device(device)), config)

    @property
    def sites(self) -> tuple[str, ...]:
        """The training sites."""
        return tuple(site.name for site in self.model.config.sites)

    def harmonize(
        self,
        image: Nifti1Image,
        target: str | None = None,
        mask: Nifti1Image | None = None,
        reference: Nifti1Image | None = None,
        reference_mask: Nifti1Image | None = None,
    ) -> Nifti1Image:
        """The volume in the style of a training site (`target`), or of one other volume (`reference`).

        An image with a skull needs its brain mask, on its own grid; a stripped one needs none.
        """
        style = self.style(target, reference, reference_mask)
        return self.translate(image, style, mask).image

    def style(
        self, target: str | None = None, reference: Nifti1Image | None = None, reference_mask: Nifti1Image | None = None
    ) -> TargetStyle:
        """What to translate to; found once, it serves any number of volumes."""
        if (target is None) == (reference is None):
            got = "neither" if target is None else "both"
            raise ValueError(f"harmonize: expected a target site or a reference image, got {got}; give one of them")
        if reference is None and reference_mask is not None:
            raise ValueError("harmonize: got a reference_mask without a reference; give the reference, or neither")
        if target is not None:
            site = self.model.config.sites[self._site_number("target", target)]
            return TargetStyle(f"site {target}", {plane: np.asarray(site.styles[plane]) for plane in self.planes})
        return self._reference_style(reference, reference_mask)

    def translate(self, image: Nifti1Image, style: TargetStyle, mask: Nifti1Image | None = None) -> Harmonised:
        """The volume in a style, with what is needed to judge the result."""
        scan = self._place(image, mask)
        after, notes = self._on_grid(scan.units, scan.mask, style, scan.before)
        voxels = to_native(scan, after, self.config.detail)
        result = image_like(voxels.reshape(image.shape), image)
        return Harmonised(result, scan.native_units, scan.native_mask, style, tuple(notes))

    def translate_prepared(self, volume: Volume, mask: Mask, style: TargetStyle) -> Volume:
        """The same for a scan that lies on the model's grid, in its units: `study_lib.preparation` makes such."""
        if volume.shape != self.model.config.grid.shape or mask.shape != volume.shape:
            raise ValueError(
                f"translate_prepared: expected volume and mask on the model's grid {self.model.config.grid.shape}, got "
                f"{volume.shape} and {mask.shape}; prepare the scan on that grid, or give its image to `translate`"
            )
        return self._on_grid(volume, mask, style, (0, 0, 0))[0]

    def normalised(self, image: Nifti1Image, mask: Nifti1Image | None = None) -> Nifti1Image:
        """The input in the units of the output, unchanged otherwise: what a generator that does nothing would give."""
        scan = self._place(image, mask)
        return image_like(scan.native_units.reshape(image.shape), image)

    def _place(self, image: Nifti1Image, mask: Nifti1Image | None) -> PlacedScan:
        return place(image, mask, self.model.config.grid, self.model.config.normaliser)

    def _on_grid(
        self, volume: Volume, mask: Mask, style: TargetStyle, before: tuple[int, int, int]
    ) -> tuple[Volume, list[str]]:
        """In [0, 1], with notes of what no training scan needed; `before`: voxels of the grid before the model's."""
        translated, notes = [], []
        for plane in self.planes:
            view = self.model.config.views[plane]
            trained = shifted(view.box, before, mask.shape)
            box = trained.around(mask, multiple=2**self.model.config.networks.generator_levels)
            moved, size = replace(view, box=box), self.config.batch_size
            translated.append(translate_volume(self.model.generator, volume, mask, moved, style.planes[plane], size))
            notes += _notes(trained, box)
        return np.where(mask, np.clip(np.mean(translated, axis=0), 0, 1), 0).astype(np.float32), notes

    def _reference_style(self, reference: Nifti1Image, mask: Nifti1Image | None) -> TargetStyle:
        """The mean style of a reference's slices, as one branch of the style encoder reads them.

        Every site has its own branch, and the site of a reference need not be known, or be any of them. The style that
        describes a volume is the one in which the generator leaves it as it is (so training's cycle loss has it):
        where `reference_site` is not given, the branch with the smallest such change is taken.
        """
        try:
            scan = self._place(reference, mask)
            stacks = {plane: self._reference_stack(scan, self.model.config.views[plane]) for plane in self.planes}
        except ValueError as error:
            raise type(error)(f"reference: {error}") from error
        if self.config.reference_site is not None:
            number = self._site_number("reference_site", self.config.reference_site)
        else:
            number = int(np.argmin(self.reference_changes(next(iter(stacks.values())))))
        planes = {plane: self._encoded(stack, number) for plane, stack in stacks.items()}
        return TargetStyle(f"a reference, read as an image of {self.sites[number]}", planes)

    def reference_changes(self, stack: Stack) -> list[float]:
        """How much the generator changes slices in their own style, for each branch of the style encoder."""
        few = stack[np.unique(np.linspace(0, len(stack) - 1, COMPARED_SLICES).round().astype(int))]
        return [
            float(np.abs(self._translated(few, self._encoded(stack, number)) - few)[few > 0].mean())
            for number in range(len(self.sites))
        ]

    def _reference_stack(self, scan: PlacedScan, view: SliceView) -> Stack:
        """The slices of a reference that hold enough brain, at the size of the style encoder."""
        box = shifted(view.box, scan.before, scan.mask.shape).around(scan.mask, multiple=1)
        if box.size != view.box.size:
            brain = SliceBox.covering(scan.mask).in_plane(box.plane).size
            raise VolumeError(
                f"the brain spans {brain} voxels (height, width) of the model's grid in {box.plane} slices, the style "
                f"encoder reads {view.box.size}; check its mask, or choose another reference"
            )
        return box.crop(scan.units)[full_slices(box.crop(scan.mask), view.least_brain)]

    def _encoded(self, stack: Stack, number: int) -> Style:
        return volume_style(self.model.style_encoder, stack, number, self.config.batch_size)

    def _translated(self, stack: Stack, style: Style) -> Stack:
        return translate_stack(self.model.generator, stack, style, self.config.batch_size)

    def _site_number(self, what: str, name: str) -> int:
        if name not in self.sites:
            raise KeyError(f"{what}: expected one of the model's sites {', '.join(self.sites)}, got {name!r}")
        return self.sites.index(name)

    def _checked_planes(self, planes: Sequence[str] | None) -> tuple[str, ...]:
        trained = tuple(self.model.config.views)
        planes = trained[:1] if planes is None else tuple(dict.fromkeys(planes))
        if not planes or set(planes) - set(trained):
            raise ValueError(
                f"planes: the model was trained on {', '.join(trained)} slices, got {', '.join(planes) or 'none'}; in "
                "other planes its output means nothing: choose among them, or train a model on those planes too"
            )
        return planes


def _notes(trained: SliceBox, box: SliceBox) -> list[str]:
    """What no training scan needed, in words."""
    if box.size != trained.size:
        return [f"{box.plane} slices have {box.size} voxels, not {trained.size}: the brain is larger than those"]
    if box.low[1:] != trained.low[1:]:
        return [f"{box.plane} slices were moved over the brain, which lies elsewhere than in training"]
    return []
