"""Which of NSD's visual areas are early."""

from __future__ import annotations

PRF = "prf-visualrois"
EARLY = ("V1", "V2", "V3", "hV4")


def is_early(name: str) -> bool:
    """Whether an ROI consists of early visual areas of prf-visualrois, or parts of them."""
    # An ROI may be a union, as "V1 + V2"; ventral and dorsal parts end in v and d.
    parts = [part.strip() for part in name.split("+")]
    return all(part == PRF or part.removeprefix(f"{PRF}/").rstrip("vd") in EARLY for part in parts)
