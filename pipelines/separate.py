"""Stage separate: models/ and the test tracks -> estimates/<track>/<stem>.wav."""

import pipelines.tensorflow_quietly  # noqa: F401  # isort: skip (before all that imports it)

import shutil
from pathlib import Path

from eval.separation import Separator
from features import audio
from features.errors import UserError
from features.stft import Waveform
from features.tracks import MIXTURE, read_manifest
from pipelines.console import progress, run_main
from pipelines.params import read_params
from pipelines.paths import ESTIMATES, MODELS, TRACKS
from pipelines.work import check_free_space, file_sha256, publish, work_folder


def main() -> None:
    """Separates every test track that is not separated yet."""
    params = read_params()
    manifest = read_manifest(TRACKS)
    tracks = manifest.split("test")
    if not tracks:
        raise UserError(f"{TRACKS}: no test track: put some into the corpus' test/ folder")
    subtype = params.separate.subtype
    folders = [MODELS / name for name in params.train.models]
    identity = (params.separate.model_dump(), file_sha256(TRACKS), models_identity(folders))
    with work_folder("separate", *identity) as work:
        values = sum(track.samples * 2 for track in tracks) * len(manifest.stems)
        check_free_space(ESTIMATES, values * audio.BYTES_PER_SAMPLE[subtype], what="separation")
        separator = Separator.load(folders)
        out = work / "estimates"
        seconds = sum(round(track.duration_s) for track in tracks)
        with progress(seconds, label="separate", unit="audio-s") as bar:
            for track in tracks:
                done = out / track.name
                if not done.is_dir():
                    mixture = audio.read_audio(manifest.path(track, MIXTURE))
                    estimates = separator.separate(mixture, sample_rate_hz=track.sample_rate_hz)
                    write_estimates(
                        done, estimates, sample_rate_hz=track.sample_rate_hz, subtype=subtype
                    )
                bar.update(round(track.duration_s))
        publish(out, ESTIMATES)


def models_identity(folders: list[Path]) -> list[str]:
    """Hashes of the model directories' files."""
    names = ("model.json", "weights.npz")
    missing = [str(f / name) for f in folders for name in names if not (f / name).is_file()]
    if missing:
        raise UserError(f"{missing[0]}: no such file: run `dvc repro` up to the train stages")
    return [file_sha256(folder / name) for folder in folders for name in names]


def write_estimates(
    folder: Path,
    estimates: dict[str, Waveform],
    *,
    sample_rate_hz: int,
    subtype: audio.Subtype,
) -> None:
    """Writes <stem>.wav files into a folder that gets its name when it is whole."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        for stem, waveform in estimates.items():
            path = temporary / f"{stem}.wav"
            audio.write_wav(path, waveform, sample_rate_hz=sample_rate_hz, subtype=subtype)
        publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(run_main(main))
