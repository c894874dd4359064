"""Numbers that a CLIP-MUSED-style decoder states about itself.

Weights of each subject, and what its input maps hold. Axis letters: R ROIs.
"""

from __future__ import annotations

from typing import Any

import torch

from fmri2clip.decoders.clip_mused.phases import is_of_subject


def count_all(decoder: Any) -> dict[str, int]:
    """Trained by gradients; deployed: with the input maps of all subjects, fitted or learned."""
    trained = sum(value.numel() for value in decoder.parameters())
    learned = decoder.config.input_map == "subject_linear"
    maps = sum(decoder.map_of(subject).n_parameters() for subject in decoder.subjects)
    return {"trained": trained, "deployed": trained + (0 if learned else maps)}


def describe(decoder: Any, subject: str) -> dict[str, float]:
    """Constants of metrics.json for one subject, named by their dotted place."""
    facts = {f"parameters.{name}": float(n) for name, n in count_parts(decoder, subject).items()}
    if decoder.config.input_map != "subject_linear":
        facts |= _describe_map(decoder, subject)
    if decoder.config.n_tokens:
        cosines = decoder.cosines_S2[decoder.subjects.index(subject)].tolist()
        names = ("guidance.mean_cosine_high", "guidance.mean_cosine_low")
        facts |= dict(zip(names, cosines, strict=True))
    return facts


def count_parts(decoder: Any, subject: str) -> dict[str, int]:
    """Weights that one subject adds (input map, tokens or embedding, ...), and shared ones."""
    identity = decoder.identity[subject].numel() if subject in decoder.identity else 0
    input_map = decoder.map_of(subject).n_parameters()
    own = identity + input_map
    if subject == decoder.config.new_subject and decoder.new_projection is not None:
        own += sum(value.numel() for value in decoder.new_projection.parameters())
    shared = sum(
        value.numel()
        for name, value in decoder.named_parameters()
        if not is_of_subject(name, decoder.subjects) and not name.startswith("new_projection.")
    )
    if not decoder.config.shared:
        own += shared
        shared = 0
    return {"input_map": input_map, "identity": identity, "per_subject": own, "shared": shared}


def _describe_map(decoder: Any, subject: str) -> dict[str, float]:
    """Share of the training images' variance in the components, by ROI and mean over voxels."""
    explained_R = decoder.map_of(subject).explained_R.cpu()
    n_R = torch.tensor(decoder.n_roi_voxels[subject]).float()
    rois = zip(decoder.roi_names, explained_R.tolist(), strict=True)
    named = {
        f"input_map.explained_variance_roi.{name.replace('.', '_')}": value for name, value in rois
    }
    return {"input_map.explained_variance": float((explained_R * n_R).sum() / n_R.sum()), **named}
