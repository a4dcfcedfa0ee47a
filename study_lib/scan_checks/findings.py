"""What a check says about a file."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One fault (`error`) or suspicion (`warning`) about one file, with what to do."""

    kind: str
    message: str
    fix: str
    severity: Literal["error", "warning"] = "error"

    @property
    def is_error(self) -> bool:
        return self.severity == "error"


class UnreadableScan(ValueError):
    """A file that holds no image one could check further."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding
        super().__init__(f"{finding.message}. Fix: {finding.fix}")

    def __reduce__(self) -> tuple:
        return type(self), (self.finding,)


def unreadable(kind: str, message: str, fix: str) -> UnreadableScan:
    """The exception for an error that ends the checks of a file."""
    return UnreadableScan(Finding(kind, message, fix))


def suspicion(kind: str, message: str, fix: str) -> Finding:
    """A warning."""
    return Finding(kind, message, fix, "warning")
