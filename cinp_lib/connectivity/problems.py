"""What is wrong with one subject's data: who, which file, why, and what to do."""

from pathlib import Path


class SubjectError(ValueError):
    """Data of one subject that cannot give a network; a batch lists it and goes on."""

    def __init__(self, file: str | Path, reason: str, fix: str, subject: str = "") -> None:
        self.file, self.reason, self.fix, self.subject = str(file), reason, fix, subject
        whose = f"subject {subject}, " if subject else ""
        super().__init__(f"{whose}{self.file}: {reason}. Fix: {fix}")

    def of(self, subject: str) -> "SubjectError":
        """The same fault, with its subject's name."""
        return SubjectError(self.file, self.reason, self.fix, self.subject or subject)

    def __reduce__(self) -> tuple:  # workers send it to the parent
        return type(self), (self.file, self.reason, self.fix, self.subject)
