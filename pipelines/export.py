"""Stage export: models/ -> exports/ (SavedModel, TFLite, golden vectors, parity.json)."""

import shutil

from stemforge import tensorflow
from stemforge.features import storage
from stemforge.features.errors import UserError
from stemforge.features.tracks import MIXTURE, read_manifest
from stemforge.pipelines.console import run_main
from stemforge.pipelines.params import read_params
from stemforge.pipelines.paths import EXPORTS, MODELS, TRACKS
from stemforge.pipelines.separate import models_identity
from stemforge.pipelines.work import publish, work_folder


def main() -> None:
    """Exports all models and compares them with Keras on the test tracks."""
    params = read_params()
    tensorflow.start()
    from stemforge.pipelines.exporting import bounds, export_all, read_clip

    manifest = read_manifest(TRACKS)
    tracks = manifest.split("test")
    if not tracks:
        raise UserError(f"{TRACKS}: no test track to prove the exports on")
    folders = [MODELS / name for name in params.train.models]
    identity = (params.export.model_dump(), models_identity(folders), storage.file_sha256(TRACKS))
    with work_folder("export", *identity) as work:
        out = work / "exports"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        export_all(
            folders,
            out,
            clips=[
                read_clip({name: manifest.path(track, name) for name in (MIXTURE, *manifest.stems)})
                for track in tracks
            ],
            frames=params.export.frames,
            bounds=bounds(params.export),
        )
        publish(out, EXPORTS)


if __name__ == "__main__":
    raise SystemExit(run_main(main))
