"""Stage export: models/ -> exports/ (SavedModel, TFLite, golden vectors, parity.json)."""

import shutil

from stemforge import storage, tensorflow
from stemforge.errors import UserError
from stemforge.eval.exports.bounds import Bounds
from stemforge.features.corpus.manifest import read_manifest
from stemforge.features.corpus.sources import MIXTURE
from stemforge.pipelines.console import run_main
from stemforge.pipelines.params import read_params
from stemforge.pipelines.paths import EXPORTS, MODELS, TRACKS
from stemforge.pipelines.running.work import publish, work_folder
from stemforge.train.model_files import model_hashes


def main() -> None:
    """Exports all models and compares them with Keras on the test tracks."""
    params = read_params()
    params.require_usable_models()
    tensorflow.start()
    from stemforge.pipelines.running.exporting import export_all, read_clip

    manifest = read_manifest(TRACKS)
    tracks = manifest.split("test")
    if not tracks:
        raise UserError(f"{TRACKS}: no test track: put some into the corpus' test/ folder")
    folders = [MODELS / name for name in params.models]
    identity = (params.export.model_dump(), model_hashes(folders), storage.file_sha256(TRACKS))
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
            bounds=Bounds(**params.export.model_dump(exclude={"frames"})),
        )
        publish(out, EXPORTS)


if __name__ == "__main__":
    raise SystemExit(run_main(main))
