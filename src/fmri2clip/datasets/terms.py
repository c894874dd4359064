"""What data sets are called, and which terms weights that come from them are under."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fmri2clip.datasets.nsd.layout import TERMS_URL


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where training data came from. licence: keys of a model card, in the words of the hub."""

    name: str
    licence: Mapping[str, str]
    terms: str
    cite: str = ""


SIMULATED = Source(
    name="the simulated NSD of fmri2clip",
    licence={"license": "mit"},
    terms="The data are simulated, so the weights are as free as the code (MIT).",
)
NSD = Source(
    name="the Natural Scenes Dataset (NSD)",
    licence={"license": "other", "license_name": "nsd-terms", "license_link": TERMS_URL},
    terms=f"NSD's terms ({TERMS_URL}) are for research and education. They forbid to pass on the "
    "data or parts of them, to sell them and to identify participants. A model folder holds "
    "weights that were derived from NSD, and mean and spread of every voxel in every session: ask "
    "before you pass it on.",
    cite="E. J. Allen et al., 'A massive 7T fMRI dataset to bridge cognitive neuroscience and "
    "artificial intelligence', Nature Neuroscience 25, 116-126, 2022",
)
OTHER = Source(
    name="data that the package does not know",
    licence={"license": "other"},
    terms="Weights are derived from data, whose terms hold for them too: ask whom the data came "
    "from before you pass this folder on.",
)
# By dataset.source of params.yaml.
SOURCES = {"simulated": SIMULATED, "s3": NSD}


def find_source(description: Mapping[str, Any]) -> Source:
    """Of the data that a model was trained on; description: content of its config.yaml."""
    return SOURCES.get(description.get("dataset", {}).get("source", ""), OTHER)
