"""Study 2: translate T1-weighted volumes between sites, and judge the result; `gan_lib.Harmonizer` is the way in."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gan_lib.harmonize import Harmonizer

__all__ = ["Harmonizer"]


def __getattr__(name: str) -> Any:
    """Fetched when first used, so that importing the library costs no torch."""
    if name != "Harmonizer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("gan_lib.harmonize").Harmonizer
