"""The training data of one tiny subject, for the tests of decoders and of training."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from fmri2clip.decoders.batches import Basis, Pictures, TrainingData

N_COMPONENTS = 6


def make_tiny(subject: str = "subj01", seed: int = 0) -> TrainingData:
    """60 images, three trials and two captions each; 30 voxels mix an 8-dimensional CLIP.

    12 images are for validation. 5 image tokens (class token first) and 4 text tokens, and scores
    on 6 components of them; early voxels 0 to 13, category voxels 12 to 24. Labels: three
    categories that the picture's code decides, one that no picture shows. ROIs: V1 of 8 voxels, V2
    of 6, faces of 13, bodies without any; three voxels are in none.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    n_images, width = 60, 8
    image_N, caption_image_K = (
        torch.arange(n_images).repeat(3),
        torch.arange(n_images).repeat_interleave(2),
    )
    code_ID, offset_D = draw(n_images, width), draw(width)
    is_validation_I = torch.zeros(n_images, dtype=torch.bool)
    is_validation_I[torch.randperm(n_images, generator=generator)[:12]] = True
    data = TrainingData(
        subject=subject,
        betas_NV=(code_ID @ draw(width, 30) / 3)[image_N] + 0.7 * draw(3 * n_images, 30),
        image_N=image_N,
        nsd_id_I=torch.arange(n_images) * 7,
        image_embedding_ID=normalize(code_ID + offset_D, dim=1),
        text_embedding_KD=normalize(
            code_ID[caption_image_K] + 0.3 * draw(2 * n_images, width) - offset_D, dim=1
        ),
        caption_image_K=caption_image_K,
        caption_K=[f"scene {k // 5}" for k in range(2 * n_images)],
        is_validation_I=is_validation_I,
    )
    semantic_ITD = torch.cat(
        [data.image_embedding_ID[:, None], code_ID[:, None] + draw(n_images, 4, width)], 1
    )
    detail_ITD = normalize(code_ID.flip(1)[:, None] + draw(n_images, 5, width), dim=2)
    text_IUD = draw(n_images, 4, width)
    text_IUD[:, 0] = 2.0
    named = {
        "semantic_tokens_ITD": semantic_ITD,
        "detail_tokens_ITD": detail_ITD,
        "text_tokens_IUD": text_IUD,
    }
    data.features |= {name: value.half() for name, value in named.items()}
    add_components(data)
    voxel = torch.arange(30)
    data.groups |= {"low": voxel < 14, "high": (voxel >= 12) & (voxel < 25), "all": voxel >= 0}
    rois = {"V1v": voxel < 5, "V1d": (voxel >= 5) & (voxel < 8), "V2v": (voxel >= 8) & (voxel < 14)}
    data.rois |= {f"prf-visualrois/{name}": member for name, member in rois.items()}
    data.rois |= {"floc-faces": (voxel >= 14) & (voxel < 27), "floc-bodies": voxel < 0}
    data.labels_IC = torch.cat(
        [code_ID[:, :3] > 0.5, torch.zeros(n_images, 1, dtype=torch.bool)], 1
    )
    data.features |= {
        "low_mean_IW": draw(n_images, 6).half(),
        "low_cls_IW": draw(n_images, 6).half(),
    }
    data.ncsnr_V = torch.rand(30, generator=generator)
    data.library = list_pictures(data)
    return data


def list_pictures(data: TrainingData) -> Pictures:
    """The subject's own pictures as a library."""
    assert data.labels_IC is not None
    return Pictures(
        nsd_id_J=data.nsd_id_I,
        image_embedding_JD=data.image_embedding_ID,
        mean_text_JD=data.mean_text_ID,
        labels_JC=data.labels_IC,
        is_labelled_J=torch.ones(len(data.nsd_id_I), dtype=torch.bool),
        features={
            f"{stream}_components_IP": data.features[f"{stream}_components_IP"]
            for stream in ("semantic", "detail")
        },
    )


def add_components(data: TrainingData, n: int = N_COMPONENTS) -> None:
    """Scores of all tokens but the class token on their n leading components, and these."""
    for stream in ("semantic", "detail", "text"):
        name = next(name for name in data.features if name.startswith(f"{stream}_tokens"))
        tokens_ITW = data.features[name].float()
        if stream != "text":
            tokens_ITW = tokens_ITW[:, 1:]
        mean_TW = tokens_ITW.mean(0)
        centred_IX = (tokens_ITW - mean_TW).flatten(1)
        components_PX = torch.linalg.svd(centred_IX, full_matrices=False).Vh[:n].half()
        shape = (len(components_PX), *mean_TW.shape)
        data.bases[stream] = Basis(mean_TW, components_PX.reshape(shape))
        data.features[f"{stream}_components_IP"] = centred_IX @ components_PX.float().T
    detail = next(name for name in data.features if name.startswith("detail_tokens"))
    data.features["detail_class_IW"] = data.features[detail][:, 0]
