"""The installed command `fmri2clip`: what a trained model is good for outside of the pipeline."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fmri2clip.core.stage import ends_in_one_line

app = typer.Typer(
    help="Use a trained model of fmri2clip on your own betas.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
# Text, as a path would lose a slash of hf://.
Place = Annotated[
    str,
    typer.Argument(
        help="models/<run>/<subject>, a copy of it, hf://OWNER/NAME@REVISION/<subject>, or "
        "models:/name/version of MLflow"
    ),
]
PARAMS = Path("params.yaml")


class Norm(StrEnum):
    """How betas become z-scores; the words of use/normalise.py."""

    stored = "stored"
    session = "session"
    none = "none"


@app.command()
def info(model: Place) -> None:
    """Say what a model is: run, decoder, CLIP, subject, voxels, images, weights, terms."""
    from fmri2clip.use.info import describe

    _print(describe(_find(model)))


@app.command()
def decode(
    model: Place,
    betas: Annotated[
        Path, typer.Option(help="single trials: .h5 .hdf5 .npy .nii.gz .csv .tsv .parquet")
    ],
    out: Annotated[Path, typer.Option(help="folder to write; it must not exist yet")],
    norm: Annotated[
        Norm,
        typer.Option(
            help="stored: raw betas, z-scored with a training session's statistics; session: with "
            "those of the given trials; none: z-scores already"
        ),
    ],
    session: Annotated[
        str,
        typer.Option(
            help="which session of the training, for --norm stored; `fmri2clip info` lists them; "
            "empty: as the file says"
        ),
    ] = "",
    trials_per_picture: Annotated[
        int,
        typer.Option(
            min=0,
            help="average so many successive trials; 1: none; 0: those that the file says show the "
            "same picture",
        ),
    ] = 0,
    pictures: Annotated[
        Path | None,
        typer.Option(
            help="what trials show, where their file cannot say it: .tsv, a row a trial, columns "
            "picture and, if known, session"
        ),
    ] = None,
    gallery: Annotated[
        Path | None, typer.Option(help="pictures to choose from: a file of `fmri2clip gallery`")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="pictures and captions to show")] = 5,
    generator: Annotated[
        str,
        typer.Option(
            help="paint pictures: a YAML file with the settings of a generator, or a name among "
            "`generators` of params.yaml"
        ),
    ] = "",
    params: Annotated[Path, typer.Option(help="where --generator may be named")] = PARAMS,
) -> None:
    """Decode betas into embeddings, categories and, where asked for, pictures and captions."""
    from fmri2clip.use.decode import Request, decode_file

    request = Request(
        model=_find(model),
        betas=betas,
        out=out,
        norm=norm.value,
        session=session,
        trials_per_picture=trials_per_picture,
        pictures=pictures,
        gallery=gallery,
        top=top,
        generator=generator,
        params=params,
    )
    _print(decode_file(request))


@app.command()
def gallery(
    folder: Annotated[Path, typer.Argument(help="pictures; captions.tsv in it: file, caption")],
    clip: Annotated[
        str,
        typer.Option(help="MODEL/WEIGHTS of open_clip, or a name among `clips` of params.yaml"),
    ],
    out: Annotated[Path, typer.Option(help="HDF5 file to write")] = Path("gallery.h5"),
    params: Annotated[Path, typer.Option(help="where --clip may be named")] = PARAMS,
) -> None:
    """Make a gallery: the CLIP features of a folder of pictures, in one file."""
    from fmri2clip.use.gallery import find_clip, list_skipped, make_gallery

    n_pictures = make_gallery(folder, out, clip, find_clip(clip, params))
    _print([f"{out} holds {n_pictures} pictures", *list_skipped(folder)])


def _find(model: str) -> str:
    """The model, fetched from MLflow's registry if it is one of its names."""
    if not model.startswith("models:/"):
        return model
    from fmri2clip.tracking.registry import find_folder

    try:
        return str(find_folder(model))
    except ImportError as error:
        raise ValueError(
            f"{model} is a name in MLflow's registry, which needs packages that are not here "
            f"({error.name}); pip install '.[pipeline]' in a clone"
        ) from None


def _print(lines: list[str]) -> None:
    print("\n".join(lines))


def main() -> None:
    """Run the command; an error ends in one line and exit code 1, 2 for wrong options.

    FMRI2CLIP_TRACEBACK=1 shows where it rose.
    """
    with ends_in_one_line("fmri2clip"):
        try:
            code = app(args=sys.argv[1:] or ["--help"], standalone_mode=False)
        except typer.TyperException as error:
            said = " ".join(str(error.format_message()).split()).rstrip(".")
            print(f"fmri2clip: {said}; --help lists what is allowed", file=sys.stderr)
            code = 2
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
