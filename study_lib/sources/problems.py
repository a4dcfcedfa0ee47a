"""Who was left out and what is doubtful, collected while a source is read."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from study_lib.manifest import exclusion, exclusion_table
from study_lib.sources.tables import relative_to


@dataclass
class Problems:
    """Rows for the excluded and the warnings table; `file` is written as seen from the data root."""

    root: Path
    excluded: list[dict[str, object]] = field(default_factory=list)
    warnings: list[dict[str, object]] = field(default_factory=list)

    def exclude(self, subject: str, reason: str, fix: str, **where: object) -> None:
        """Say that a subject, or one session of it, is not in the manifest."""
        self.excluded.append(self._row(subject, reason, fix, **where))

    def warn(self, subject: str, reason: str, fix: str, **where: object) -> None:
        """Say what is odd about a scan that stays; an empty subject stands for the whole data set."""
        self.warnings.append(self._row(subject, reason, fix, **where))

    def _row(self, subject: str, reason: str, fix: str, **where: object) -> dict[str, object]:
        file = where.get("file", "")
        if isinstance(file, Path):
            file = relative_to(file, self.root)
        place = {"line": 0, "session": "", "column": ""} | where
        return exclusion(subject=subject, reason=reason, fix=fix, **(place | {"file": file}))

    def tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The excluded and the warnings table, each by line and then in the order found."""
        return exclusion_table(self.excluded), exclusion_table(self.warnings)
