"""A subject who joins a network that others have trained."""

from __future__ import annotations

from collections.abc import Sequence

from fmri2clip.core.strict import check_known
from fmri2clip.decoders.batches import TrainingData


def check_new_subject(new_subject: str, subjects: Sequence[str], where: str) -> None:
    """Raise ValueError for a new subject that is none of the run's; '' is nobody."""
    if new_subject:
        check_known(new_subject, subjects, where, "new_subject", "among the subjects of the run")


def without_new_subject(data: Sequence[TrainingData], new_subject: str) -> list[TrainingData]:
    """Data of those who train what all share.

    Raises ValueError where the new subject is the only one, or has no data.
    """
    old = [d for d in data if d.subject != new_subject]
    if not old or (new_subject and len(old) == len(data)):
        raise ValueError(
            f"new_subject is {new_subject!r}, expected one of several subjects of the run, which "
            f"are {', '.join(d.subject for d in data)}"
        )
    return old
