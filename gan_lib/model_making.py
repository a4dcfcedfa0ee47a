"""From the end of training to a model: the averaged networks, and what the training volumes say about their sites."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from torch import nn

from gan_lib.slices import SliceStore
from gan_lib.trained_model import ModelConfig, Site, SliceView, TrainedModel
from gan_lib.translation import Style, volume_style

# Columns of a manifest that describe a scanner.
SCANNER_COLUMNS = ("vendor", "field_strength_t", "sequence", "echo_time_ms", "repetition_time_ms")


def model_of(networks: nn.Module, store: SliceStore, iterations: int, rows: pd.DataFrame | None = None) -> TrainedModel:
    """The model that `networks` (the average that training keeps: `average.module`) makes with its training store.

    `rows` are the manifest's, for the scanners in the card. The networks are put into eval mode, not copied.
    """
    networks = networks.requires_grad_(False).eval()
    stores = {store.plane: store}
    config = ModelConfig(
        networks.config,
        store.config.grid,
        {plane: SliceView.of(view) for plane, view in stores.items()},
        store.config.normaliser,
        training_sites(networks.encoder, stores, scanners(rows) if rows is not None else {}),
        iterations,
    )
    return TrainedModel(config, networks.generator, networks.encoder, networks.mapping)


def training_sites(
    encoder: nn.Module, stores: Mapping[str, SliceStore], facts: Mapping[str, Mapping[str, str | float]]
) -> tuple[Site, ...]:
    """Every site with its number of subjects, its mean style in every plane, and its scanner."""
    first = next(iter(stores.values()))
    people = first.table.groupby("site")["subject"].nunique()
    return tuple(
        Site(
            name,
            int(people[name]),
            {plane: mean_style(encoder, store, name) for plane, store in stores.items()},
            facts.get(name, {}),
        )
        for name in first.sites
    )


def mean_style(encoder: nn.Module, store: SliceStore, site: str) -> Style:
    """The mean over a site's volumes of their styles, each the mean over its slices with enough brain."""
    full, number = store.full(), store.sites.index(site)
    stacks = (store.stack(index)[0][full[index]] for index in store.volumes(site))  # noqa: PD013 - no table
    styles = [volume_style(encoder, stack, number) for stack in stacks]
    return np.mean(styles, axis=0, dtype=np.float64).astype(np.float32)


def scanners(rows: pd.DataFrame) -> dict[str, dict[str, str]]:
    """What a manifest's rows say about each site's scanner: one value, or all values, or a range of numbers."""
    columns = [name for name in SCANNER_COLUMNS if name in rows]
    return {str(site): {name: _values(group[name]) for name in columns} for site, group in rows.groupby("site")}


def _values(column: pd.Series) -> str:
    values = sorted(set(column[column.notna() & (column != "")]))
    if len(values) > 1 and isinstance(values[0], float):
        return f"{values[0]:g} to {values[-1]:g}"
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
