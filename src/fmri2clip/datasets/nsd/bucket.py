"""NSD's public bucket, and the terms under which it is open."""

from __future__ import annotations

from functools import cache

from fmri2clip.core.params import Dataset, Download
from fmri2clip.datasets.nsd import layout
from fmri2clip.transfer.remotes import S3Remote


@cache
def open_bucket(download: Download) -> S3Remote:
    """The bucket that the parameters name; nothing is asked of it yet."""
    return S3Remote(download.bucket, download.endpoint, download.region, download.connections)


def require_terms(dataset: Dataset) -> None:
    """Raise ValueError unless the user has accepted NSD's terms."""
    if not dataset.accept_terms:
        raise ValueError(
            "nothing was downloaded: NSD is given under terms (research and education only, no "
            f"redistribution), see {layout.TERMS_URL}; set dataset.accept_terms to true in "
            "params.yaml once you accept them"
        )
