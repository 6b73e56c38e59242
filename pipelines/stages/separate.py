"""Stage separate: models/ and the test tracks -> estimates/<track>/<stem>.wav."""

from stemforge import storage
from stemforge.errors import UserError
from stemforge.eval.separation.separator import Separator
from stemforge.features.audio import files as audio
from stemforge.features.corpus.manifest import read_manifest
from stemforge.features.corpus.sources import MIXTURE
from stemforge.pipelines.console import progress, run_main
from stemforge.pipelines.params import read_params
from stemforge.pipelines.paths import ESTIMATES, MODELS, TRACKS
from stemforge.pipelines.running.estimates import write_estimates
from stemforge.pipelines.running.work import check_free_space, publish, work_folder
from stemforge.train.model_files import model_hashes


def main() -> None:
    """Separates every test track that is not separated yet."""
    params = read_params()
    params.require_usable_models()
    manifest = read_manifest(TRACKS)
    tracks = manifest.split("test")
    if not tracks:
        raise UserError(f"{TRACKS}: no test track: put some into the corpus' test/ folder")
    subtype = params.separate.subtype
    folders = [MODELS / name for name in params.models]
    identity = (params.separate.model_dump(), storage.file_sha256(TRACKS), model_hashes(folders))
    with work_folder("separate", *identity) as work:
        values = sum(track.samples * 2 for track in tracks) * len(params.estimated_stems)
        check_free_space(ESTIMATES, values * audio.BYTES_PER_SAMPLE[subtype], what="separation")
        separator = Separator.load(folders)
        out = work / "estimates"
        seconds = sum(round(track.duration_s) for track in tracks)
        with progress(seconds, label="separate", unit="audio-s") as bar:
            for track in tracks:
                paths = {stem: out / track.name / f"{stem}.wav" for stem in separator.stems}
                if not all(path.is_file() for path in paths.values()):
                    info, blocks = audio.stream_song(manifest.path(track, MIXTURE))
                    rate_hz = info.sample_rate_hz
                    write_estimates(
                        paths,
                        separator.separate_stream(blocks, sample_rate_hz=rate_hz),
                        codec="wav",
                        channels=info.channels,
                        sample_rate_hz=rate_hz,
                        subtype=subtype,
                    )
                bar.update(round(track.duration_s))
        publish(out, ESTIMATES)


if __name__ == "__main__":
    raise SystemExit(run_main(main))
