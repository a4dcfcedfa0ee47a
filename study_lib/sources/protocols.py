"""How the harmonisation study's four sites acquired their T1w, as the data table of its deck says."""

from dataclasses import dataclass

import pandas as pd

from study_lib.sources.acquisition import repetition_kind
from study_lib.sources.problems import Problems

TOLERANCE = 0.05


@dataclass(frozen=True)
class Protocol:
    """One site's protocol; times are lowest and highest value in ms, equal where the table has one."""

    vendor: str
    field_strength_t: float
    sequence: str
    echo_time_ms: tuple[float, float]
    repetition_time_ms: tuple[float, float]

    def facts(self) -> dict[str, object]:
        """What may be written into rows whose sidecars are silent: a range of values fits no single scan."""
        times = {"echo_time_ms": self.echo_time_ms, "repetition_time_ms": self.repetition_time_ms}
        single = {name: low for name, (low, high) in times.items() if low == high}
        named = {"vendor": self.vendor, "field_strength_t": self.field_strength_t, "sequence": self.sequence}
        if "repetition_time_ms" in single:
            named["repetition_time_kind"] = repetition_kind(single["repetition_time_ms"])
        return named | single


PROTOCOLS = {
    "smc": Protocol("Philips", 3.0, "TFE", (4.6, 4.6), (9.9, 9.9)),
    "adni": Protocol("GE", 1.5, "MPRAGE", (3.8, 4.1), (8.6, 10.4)),
    "gsev": Protocol("GE", 1.5, "MPRAGE", (3.8, 4.1), (8.6, 10.4)),
    "gmc": Protocol("Siemens", 3.0, "MPRAGE", (2.9, 2.9), (1900.0, 1900.0)),
}


def warn_of_deviations(scans: pd.DataFrame, protocol: Protocol, problems: Problems) -> None:
    """Name scans that were not acquired as the study says: they would hide a fifth protocol in a site."""
    for scan in scans.itertuples():
        odd = [text for name in ("vendor", "field_strength_t") if (text := _deviation(scan, name, protocol))]
        if odd:
            place = {"session": scan.session, "column": "vendor", "file": scan.source}
            fix = "leave the scan out if the site is to stand for one protocol"
            problems.warn(scan.subject, f"not the study's protocol: {', '.join(odd)}", fix, **place)


def _deviation(scan: object, name: str, protocol: Protocol) -> str:
    value, expected = getattr(scan, name), getattr(protocol, name)
    if name == "field_strength_t":
        same = value != value or abs(value - expected) <= TOLERANCE * expected
    else:
        same = value in ("", expected)
    return "" if same else f"{name} is {value}, not {expected}"
