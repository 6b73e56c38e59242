"""From what a user names to a folder of models: a path, a model's name, a release's address."""

from pathlib import Path

from stemforge.errors import UserError
from stemforge.eval.config import Runtime
from stemforge.pipelines.console import say
from stemforge.pipelines.options import is_address, local_path
from stemforge.pipelines.pretrained import home, releases
from stemforge.pipelines.pretrained.catalogue import (
    LICENCE,
    MODELS,
    PREFIX,
    RELEASE,
    Pretrained,
    find,
)
from stemforge.pipelines.pretrained.sources import MB, fetch_checkpoint
from stemforge.pipelines.running.work import check_free_space
from stemforge.unfinished import finishing

FORMAT = 2  # of the converted files: a new one converts again


def resolve(text: str, *, runtime: Runtime | None = None, offline: bool = False) -> Path:
    """The folder or file of models that a user names; what is not on this machine is fetched.

    Args:
        text: a path, a name such as spleeter:2stems, the folder of a release, or the address of
            a release's SHA256SUMS.
        runtime: that will run the models of a release; None: LiteRT.
        offline: nothing is fetched.

    Returns:
        What `find_models` takes.

    Raises:
        UserError: there is nothing of this name, it cannot be fetched, or a release's file is not
            the one that its SHA256SUMS lists.
    """
    if is_address(text):
        return releases.models_of(releases.fetch(text, offline=offline), runtime)
    path = local_path(text)
    if not path.exists() and (text.startswith(PREFIX) or f"{PREFIX}{text}" in MODELS):
        if not text.startswith(PREFIX):
            raise UserError(f"{text}: no such folder: did you mean {PREFIX}{text}?")
        if runtime == "tensorflow":
            name = text.removeprefix(PREFIX)
            raise UserError(
                f"{text}: runs on LiteRT: leave --runtime out, or make model directories of it: "
                f"`stemforge convert-spleeter --download {name} --output {name}`"
            )
        return fetch_model(text, offline=offline)
    if releases.is_release(path):
        releases.check(path)
        return releases.models_of(path, runtime)
    return path


def title(text: str) -> str:
    """What a user names, as the name of a method: the last part of its path or address."""
    if is_address(text):
        return text.split("/")[-2]
    return MODELS[text].folder if text in MODELS else Path(text).absolute().name


def folder_of(model: Pretrained) -> Path:
    """Where a model is kept, whether it is there or not."""
    return home.home() / f"tflite-{FORMAT}" / model.folder


def fetch_model(name: str, *, base_url: str = RELEASE, offline: bool = False) -> Path:
    """Fetches and converts a model, unless it is there.

    Args:
        name: of the model, such as spleeter:2stems; `stemforge models` lists them.
        base_url: address of Deezer's archives.
        offline: nothing is fetched.

    Returns:
        A folder of TFLite files, in float32 and with inner layers in int8: `find_models`
        chooses by `tflite`.

    Raises:
        UserError: no model has this name, or it cannot be fetched.
    """
    model = find(name)
    place = folder_of(model)
    if home.is_there(place):
        return place
    if offline:
        raise UserError(
            f"{name}: not on this machine ({place}), and --offline: run `stemforge models pull "
            f"{name}` with a network first"
        )
    with home.changing(place, what=name):
        if place.is_dir():  # another process has fetched it
            return place
        say(f"{name}: {model.archive.size_mb} MB, licence {LICENCE}, once, into {place}")
        downloads = _downloads(model)
        home.make(downloads)
        advice = f"download it elsewhere, and put it into {downloads}"
        checkpoint = fetch_checkpoint(model, downloads, base_url=base_url, advice=advice)
        from stemforge.pipelines.pretrained.converting import convert

        check_free_space(place, 2 * model.archive.size_mb * MB, what=f"converting {name}")
        with finishing(place) as fresh:
            fresh.mkdir()
            convert(checkpoint, model.configuration, fresh)
        home.discard(downloads)
    return place


def remove_model(name: str) -> bool:
    """Removes a model from this machine; returns whether it was there.

    Raises:
        UserError: no model has this name, or it cannot be removed.
    """
    model = find(name)
    place = folder_of(model)
    with home.changing(place, what=name):
        there = place.is_dir()
        home.discard(place)
        home.discard(_downloads(model))
    return there


def _downloads(model: Pretrained) -> Path:
    return home.home() / "downloads" / model.folder
