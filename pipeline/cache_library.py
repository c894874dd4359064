"""Stage cache_library: pictures that decoders may weigh, without those of the test set."""

from __future__ import annotations

from fmri2clip.artefacts.paths import Paths
from fmri2clip.core import stage
from fmri2clip.core.params import Params
from fmri2clip.stages.cache_library import cache


def cache_library(params: Params, name: str) -> None:
    """Write data/libraries/<name>/ and print what was refused."""
    stage.check_named(name, params.libraries, "libraries")
    library = params.libraries[name]
    refused = cache.cache_library(
        Paths(),
        name,
        library,
        params.clips[library.clip],
        params.subjects,
        params.labels,
        device=stage.device(params),
        threads=params.compute.threads,
        is_nsd=params.dataset.source == "s3",
    )
    for part, numbers in refused.items():
        said = ", ".join(f"{n} {reason}" for reason, n in numbers.items())
        print(f"{name}, {part}: refused {said}")


if __name__ == "__main__":
    stage.run(cache_library)
