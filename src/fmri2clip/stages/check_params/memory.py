"""Peaks of memory and arithmetic of trainings, as formulas over a Model (training.py).

RAM is what a process has of its own (anonymous memory). Pages of mapped files are not counted: the
system drops them where it needs the room. Every formula follows the code of stages/train and of
decoders/parts, solvers line by line; test_plan.py measures some of them.

Letters: N trials, I images, J training images, V voxels that the model reads, C voxels of the file,
D columns of a target, X voxels of an ROI.
"""

from __future__ import annotations

import torch

from fmri2clip.decoders.batches import TrainingData
from fmri2clip.decoders.parts.input_maps import InputMap
from fmri2clip.stages.check_params.machine import CPU, GB, Device
from fmri2clip.stages.check_params.sizes import HALF, N_CAPTIONS, SINGLE
from fmri2clip.stages.check_params.training import Model

DOUBLE = 8  # bytes of float64
# Python with torch and, for gradients, Lightning imported, after a small training; measured.
BASE = {True: 0.45 * GB, False: 0.6 * GB}  # in closed form, by gradients
CONTEXT = 0.6 * GB  # of a GPU: CUDA's own memory and cuBLAS
DATA_SHARE = 0.4  # of a GPU's free memory that features may take, as in stages/train/trainer.py
REPEATS = 3  # presentations of an image
# Reads and writes of each weight in a step: forward, backward, gradient, norm of it and its
# scaling, AdamW (weight, gradient and two moments read, three of them written).
PASSES = 12
# Seconds of a step on a CPU for its many small operations: by clip_mused of the default run, 41 ms
# a step on one core, of which the formulas explain 6.
SMALL = 0.035


# RAM


def count_loading(data: TrainingData, n_columns: int) -> float:
    """Bytes at the peak of reading one subject: 2 N C + max(2 N C + 2 N V, 6 N V), float16 beside
    float32 (stages/train/data.py).
    """
    n_trials, n_voxels = data.betas_NV.shape
    file = HALF * n_trials * n_columns
    picked = HALF * n_trials * n_voxels
    return file + max(file + picked, picked + SINGLE * n_trials * n_voxels)


def count_subject(data: TrainingData) -> float:
    """Bytes that stay of one subject: 4 N V of betas, 4 I D (2 + 5) of embeddings, and scores on
    components of tokens, which are read and not mapped.
    """
    n_images, width_D = data.image_embedding_ID.shape
    scores = sum(value.nbytes for value in data.features.values() if value.ndim == 2)
    return data.betas_NV.nbytes + SINGLE * n_images * width_D * (2 + N_CAPTIONS) + scores


def count_bases(model: Model) -> float:
    """Bytes of the components, which all subjects share, beside those that the decoder holds."""
    wanted = {name.partition("_")[0] for name in model.data[0].features if "_components_" in name}
    found = [basis for name, basis in model.data[0].bases.items() if name in wanted]
    return float(sum(b.mean_TW.nbytes + b.components_PTW.nbytes for b in found))


def count_means(data: TrainingData) -> float:
    """Bytes of the mean over the repeats of each image: 4 I V."""
    return float(SINGLE * len(data.nsd_id_I) * data.betas_NV.shape[1])


def count_ram(model: Model, on_gpu: bool) -> float:
    """Peak of RAM of a training: of reading, fitting input maps, training, and centring."""
    data = list(model.data)
    stays = [count_subject(d) for d in data]
    loading = max(
        sum(stays[:place]) + count_loading(d, model.n_columns[d.subject])
        for place, d in enumerate(data)
    )
    maps = find_maps(model)
    kept = sum(map(count_means, data)) if maps else 0.0
    fitting = kept + max((count_maps(model, d) for d in data), default=0.0) if maps else 0.0
    training = kept + count_training(model, on_gpu)
    largest = max(count_means(d) + count_centring(model, d) for d in data)
    centring = sum(map(count_means, data)) + largest + model.state_bytes
    fixed = BASE[model.closed_form] + count_bases(model)
    return fixed + max(loading, sum(stays) + max(fitting, training, centring))


def count_training(model: Model, on_gpu: bool) -> float:
    """Bytes of RAM of the fit beside the data.

    Of gradients: the best weights, and on a CPU the fit itself, beside a GPU the weights that come
    back at the end. A checkpoint is written tensor by tensor.
    """
    if model.closed_form:
        return 0.0 if on_gpu else count_closed(model)
    if on_gpu:
        return 2 * model.state_bytes
    return model.state_bytes + count_fit(model)


def count_fit(model: Model) -> float:
    """Bytes of the fit itself beside the data, on the device that computes."""
    if model.closed_form:
        return count_closed(model)
    means = sum(map(count_means, model.data))
    return count_weights(model) + means + count_passing(model)


def count_weights(model: Model) -> float:
    """Bytes of weights and buffers, gradients and AdamW's two moments."""
    return model.state_bytes + 3 * model.gradient_bytes


def count_passing(model: Model) -> float:
    """Bytes that come and go: a batch with its repeats, gathered and weighted, and activations
    (Step.saved, and a tenth for what nobody keeps); or the means while they are divided.
    """
    assert model.step is not None
    n_voxels = max(d.betas_NV.shape[1] for d in model.data)
    batch = 2 * REPEATS * SINGLE * model.config.batch_size * n_voxels
    return max(*map(count_means, model.data), batch + 1.1 * model.step.saved)


def count_centring(model: Model, data: TrainingData) -> float:
    """Bytes behind the means that centre predictions, over all training images at once: 4 J V, and
    what decoding makes of them.
    """
    n_train = model.n_train[data.subject]
    decoding = 3 * n_train * (model.step.decoding if model.step else 0.0)
    return SINGLE * n_train * data.betas_NV.shape[1] + decoding


def find_maps(model: Model) -> list[InputMap]:
    """Input maps that are fitted and not learned."""
    if model.decoder is None:
        return []
    found = [m for m in model.decoder.modules() if isinstance(m, InputMap)]
    return [m for m in found if not isinstance(m.weight_XK, torch.nn.Parameter)]


def count_maps(model: Model, data: TrainingData) -> float:
    """Bytes of principal components in float64: (4 + 8) J V, and for the largest ROI 8 (3 J X +
    5 X^2): rows twice and centred, covariance, vectors, workspace of twice the size, and a copy.
    """
    n_train = model.n_train[data.subject]
    largest = max(max(m.n_voxels_R, default=0) for m in find_maps(model))
    inputs = (SINGLE + DOUBLE) * n_train * data.betas_NV.shape[1]
    return inputs + DOUBLE * (3 * n_train * largest + 5 * largest**2)


def count_closed(model: Model) -> float:
    """Bytes of a kernel ridge regression: means, 4 J V of rows, the P bytes of the decoder itself,
    and, with centred rows and targets Y,

        4 J^2 x 4           kernel, eigenvectors, workspace of twice the size
        4 J^2 + P + 8 J D   eigenvectors, weights before they are copied, two products for the
                            widest target

    (solvers/kernel_ridge.py, decoders/ridge).
    """
    (data,) = model.data
    n_train = model.n_train[data.subject]
    n_inputs, widths = find_targets(model)
    rows = SINGLE * n_train * data.betas_NV.shape[1]
    centred = SINGLE * n_train * (n_inputs + sum(widths))
    kernel = SINGLE * n_train**2
    products = 2 * SINGLE * n_train * max(widths, default=0)
    solving = centred + max(4 * kernel, kernel + model.state_bytes + products)
    return count_means(data) + rows + model.state_bytes + solving


def find_targets(model: Model) -> tuple[int, list[int]]:
    """Inputs of a closed form, and columns of each of its targets: matrices with as many rows."""
    (data,) = model.data
    n_inputs = data.betas_NV.shape[1]
    if model.decoder is None:
        return n_inputs, [data.image_embedding_ID.shape[1]] * 2
    maps = find_maps(model)
    if maps:
        n_inputs = sum(m.offset_RK.numel() for m in maps)
    matrices = [value for value in model.decoder.state_dict().values() if value.ndim == 2]
    return n_inputs, [m.shape[1] for m in matrices if len(m) == n_inputs]


# GPU


def count_gpu(model: Model, device: Device) -> float:
    """Peak of a GPU's memory: data, features if they fit, the fit, and CUDA's own.

    Half precision makes a copy of each weight that it uses (2 of 4 bytes), which the backward pass
    keeps; activations are counted in float32, so they come out high.
    """
    data = sum(map(count_subject, model.data)) + CONTEXT
    halves = model.gradient_bytes / 2
    features = 0 if streams(model, device) else model.feature_bytes
    return data + features + halves + count_fit(model)


def streams(model: Model, device: Device) -> bool:
    """Whether features stay in the file and come batch by batch, beside a GPU."""
    free = device.gpu_memory - CONTEXT
    return not model.closed_form and model.feature_bytes > DATA_SHARE * free


def count_pages(model: Model, device: Device) -> float:
    """Bytes of mapped features that are read again and again, from the disk unless they stay in
    memory; on a GPU they are read once where they fit.
    """
    if device.gpu_memory and not streams(model, device):
        return 0.0
    return float(model.feature_bytes)


# Time


def count_seconds(model: Model, device: Device) -> float:
    """Seconds of a training to its last epoch, reading the data once included."""
    read = sum(d.betas_NV.nbytes / 2 for d in model.data) + model.feature_bytes
    seconds = read / device.disk
    for data in model.data:
        seconds += count_map_seconds(model, data)
    if model.closed_form:
        return seconds + count_closed_seconds(model, device)
    return seconds + count_step_seconds(model, device) * count_n_steps(model)


def count_n_steps(model: Model) -> int:
    """Steps of all epochs: of one subject, or as many of each as the largest has."""
    n_images = max(model.n_train.values()) * len(model.data)
    return int(model.config.max_epochs * -(-n_images // model.config.batch_size))


def count_step_seconds(model: Model, device: Device) -> float:
    """Seconds of one step: 3 F / speed, and what moves between memory and processor: PASSES over
    the weights, 3 over activations, and the batch; without a GPU also SMALL, for what is small.
    """
    assert model.step is not None
    n_voxels = max(d.betas_NV.shape[1] for d in model.data)
    batch = 4 * REPEATS * SINGLE * model.config.batch_size * n_voxels
    moved = PASSES * model.gradient_bytes + 3 * model.step.saved + batch
    small = 0.0 if device.gpu_memory else SMALL
    return 3 * model.step.flops / device.half + moved / device.traffic + small


def count_closed_seconds(model: Model, device: Device) -> float:
    """Seconds of a kernel ridge regression with A penalties and k folds.

    2 J^2 V of the kernel, 9 J^3 of its decomposition, of the choice 2 J^2 D and A times 2 J^3 / k +
    J^3 / 3 k^2 + 2 J^2 D (1 + 1 / k), 4 J^2 D + 2 J V D of the weights.
    """
    (data,) = model.data
    n = model.n_train[data.subject]
    n_inputs, widths = find_targets(model)
    n_alphas = getattr(model.config, "n_alphas", 1)
    k = getattr(model.config, "n_folds", 1)
    narrow = sum(min(width, n) for width in widths)
    choice = 2 * n**3 / k + n**3 / (3 * k**2) + 2 * n**2 * narrow * (1 + 1 / k)
    products = 2 * n**2 * (n_inputs + narrow) + n_alphas * choice
    products += (4 * n**2 + 2 * n * n_inputs) * sum(widths)
    return products / device.single + 9 * n**3 / device.eigen


def count_map_seconds(model: Model, data: TrainingData) -> float:
    """Seconds of principal components on the CPU, in float64 at half its speed: 2 J X^2 + 9 X^3 an
    ROI.
    """
    n_train = model.n_train[data.subject]
    seconds = 0.0
    # The decoder has the maps of all its subjects: this one's are its share of them.
    for found in find_maps(model):
        for n in found.n_voxels_R:
            products = 2 * n_train * n**2 / (CPU.single / 2)
            seconds += products + 9 * n**3 / (CPU.eigen / 2)
    return seconds / len(model.data)
