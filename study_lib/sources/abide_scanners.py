"""The scanners of ABIDE's sites, from the table of scan parameters that MRIQC's authors compiled.

It stands on its side: one column per site, one row per parameter, times in seconds, a few names misspelt.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from study_lib.sources.acquisition import acquisition
from study_lib.sources.curation import SITE_FACTS
from study_lib.sources.tables import read_table

SITE_SPELLINGS = {"CALTEC": "CALTECH"}
KEYS = {
    "Vendor": "Manufacturer",
    "TR (sec)": "RepetitionTime",
    "TE (sec)": "EchoTime",
    "Seq. name": "SequenceName",
}


def is_scanner_table(path: Path) -> bool:
    """Whether a table has the vendors of sites as a row."""
    table = read_table(path)
    return table.shape[1] > 2 and "Vendor" in set(table.iloc[:, 0])


def scanner_facts(scans: pd.DataFrame, people: pd.DataFrame, paths: Sequence[Path]) -> pd.DataFrame:
    """Scans with their site's scanner where their own sidecars are silent."""
    if not paths:
        return scans
    sites = site_acquisitions(paths[0])
    site = scans["subject"].map(people.drop_duplicates("subject").set_index("subject")["site"])
    facts = sites.reindex(site).set_axis(scans.index)
    # A sidecar that names the maker is about this very scan; mixing the two would fit neither.
    silent = scans["vendor"] == ""
    return scans.assign(**{name: scans[name].where(~silent, facts[name]) for name in SITE_FACTS})


def site_acquisitions(path: Path) -> pd.DataFrame:
    """One row per site with the manifest's columns of the acquisition."""
    table = read_table(path)
    parameters = table.set_index(table.columns[0]).rename(index=KEYS).T
    parameters.index = parameters.index.map(lambda site: SITE_SPELLINGS.get(site, site))
    rows = {}
    for site, values in parameters.iterrows():
        fact = acquisition({key: values[key] for key in KEYS.values() if key in values})
        rows[site] = {name: getattr(fact, name) for name in SITE_FACTS}
    return pd.DataFrame.from_dict(rows, orient="index")
