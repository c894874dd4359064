"""Trained decoders as versions of registered models, which MLflow loads and serves anywhere.

A version holds the model folder of one subject, the code that decodes and nothing else of the
project, the versions of the packages that this code imports, and what is known of the model. Of a
decoder that serves several subjects, each subject has a version of its own.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmri2clip.artefacts.model import SHARED, has_weights, weights_sha256
from fmri2clip.artefacts.paths import Paths
from fmri2clip.core.closure import PACKAGE, find_closure, list_packages
from fmri2clip.core.files import sha256_file
from fmri2clip.core.params import Params
from fmri2clip.tracking.content import DEFAULT, Trained
from fmri2clip.tracking.runs import find_children
from fmri2clip.tracking.store import connect, named_failures, opened, tracking_uri
from fmri2clip.use.info import describe
from fmri2clip.use.model import load

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

SERVED = Path(__file__).with_name("served.py")
DIGEST = "model_sha256"  # tag: over all files of the model


def register_models(params: Params, paths: Paths, root: Path) -> list[str]:
    """Register every subject's model of every run that is on record; returns the new versions.

    As `name/version`. A model that a version has already is left alone. Raises ValueError for a
    store that cannot be used.
    """
    with named_failures(root):
        return list(_register(params, paths, root))


def _register(params: Params, paths: Paths, root: Path) -> Iterator[str]:
    experiment = params.tracking.experiment
    for run in params.runs:
        if not paths.model(run).is_dir():
            continue
        trained = Trained(run=run, params=params, paths=paths)
        run_ids = find_children(connect(root), trained, DEFAULT)
        for subject in (subject for subject in trained.subjects if subject in run_ids):
            name = f"{experiment}-{run}-{subject}"
            with tempfile.TemporaryDirectory() as folder:
                staged = _stage(paths.model(run), subject, Path(folder))
                digest = _digest(staged)
                # Two processes that look and do not find it would both register it.
                with opened(root, experiment) as (client, _):
                    if digest in _list_digests(client, name):
                        continue
                    version = _log(tracking_uri(root), staged, subject, run_ids[subject], name)
                    client.set_model_version_tag(name, version, DIGEST, digest)
            yield f"{name}/{version}"


def find_folder(uri: str, root: Path | None = None) -> Path:
    """The model folder in a registered version, fetched if need be; uri: models:/name/version.

    Raises ValueError if there is none.
    """
    import mlflow

    connect(root)
    mlflow.set_tracking_uri(tracking_uri(root))
    try:
        folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))
    except (mlflow.MlflowException, OSError) as error:
        raise ValueError(f"{uri} is not in {tracking_uri(root)}: {error}") from None
    models = [path.parent for path in folder.glob("artifacts/run/*/inputs.safetensors")]
    if len(models) != 1:
        raise ValueError(f"{uri} is no model of fmri2clip; `make mlflow` registers those there are")
    return models[0]


def _stage(run_folder: Path, subject: str, folder: Path) -> Path:
    """A run's folder with this subject and what its decoder needs, no more."""
    staged = folder / "run"
    shutil.copytree(run_folder / subject, staged / subject)
    if not has_weights(staged / subject):
        shutil.copytree(run_folder / SHARED, staged / SHARED)
    return staged


def _digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{path.relative_to(folder).as_posix()} {sha256_file(path)}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _list_digests(client: MlflowClient, name: str) -> set[str]:
    versions = client.search_model_versions(f"name = '{name}'")
    return {version.tags.get(DIGEST, "") for version in versions}


def _log(uri: str, staged: Path, subject: str, run_id: str, name: str) -> str:
    """Log the model below the subject's run and register it; returns the version."""
    import mlflow
    from mlflow.models import Model

    mlflow.set_tracking_uri(uri)
    client = mlflow.MlflowClient(uri)
    # Else the model would lie in the default experiment, below the working directory.
    mlflow.set_experiment(experiment_id=client.get_run(run_id).info.experiment_id)
    decoder = load(staged / subject)
    code = find_closure(PACKAGE / "use" / "model.py", decoder=decoder.description["decoder"])
    example_IV = np.random.default_rng(0).standard_normal((2, len(decoder.ijk_V3)), np.float32)
    info = Model.log(
        artifact_path=None,
        name="decoder",
        flavor=mlflow.pyfunc,
        run_id=run_id,
        registered_model_name=name,
        await_registration_for=0,
        python_model=str(SERVED),
        artifacts={"run": str(staged)},
        model_config={"subject": subject},
        code_paths=[str(_copy_code(code, staged.parent))],
        pip_requirements=sorted(_list_requirements(code)),
        signature=_sign(decoder, example_IV),
        input_example=example_IV,
        metadata={"categories": list(decoder.content.clip.get("category_C", ()))},
    )
    version = str(info.registered_model_version)
    card = "\n".join(describe(str(staged / subject)))
    client.update_model_version(name, version, f"```\n{card}\n```")
    weights = staged / (subject if has_weights(staged / subject) else SHARED)
    client.set_model_version_tag(name, version, "weights_sha256", weights_sha256(weights))
    return version


def _sign(decoder: Any, example_IV: np.ndarray[Any, Any]) -> ModelSignature:
    """Any number of rows of the model's voxels; arrays as decoding gives them."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

    decoded = decoder.decode(example_IV)
    arrays = {n: getattr(decoded, n) for n in ("embedding", "text_embedding", "probabilities")}
    outputs: list[ColSpec | TensorSpec] = [
        TensorSpec(array.dtype, (-1, array.shape[1]), name)
        for name, array in arrays.items()
        if array is not None
    ]
    return ModelSignature(
        inputs=Schema([TensorSpec(example_IV.dtype, (-1, example_IV.shape[1]))]),
        outputs=Schema(outputs),
        params=ParamSchema([ParamSpec("n_repeats", "long", 1)]),
    )


def _copy_code(code: set[Path], folder: Path) -> Path:
    """The package with these files, and the `__init__.py` that lead to them."""
    target = folder / "code" / PACKAGE.name
    packages = {parent / "__init__.py" for file in code for parent in file.parents}
    for file in code | {path for path in packages if path.is_relative_to(PACKAGE)}:
        copy = target / file.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    return target


def _list_requirements(code: set[Path]) -> Iterator[str]:
    """Pins of the packages that these files import, as they are installed here."""
    distributions = importlib.metadata.packages_distributions()
    for package in {name for file in code for name in list_packages(file)}:
        # A package may be spread over several distributions, as ruamel is.
        for distribution in sorted(set(distributions.get(package, ()))):
            version = importlib.metadata.version(distribution)
            yield f"{distribution}=={version.partition('+')[0]}"
