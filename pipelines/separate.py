"""Stage separate: models/ and the test tracks -> estimates/<track>/<stem>.wav."""

import pipelines.tensorflow_quietly  # noqa: F401  # isort: skip (before all that imports it)

import shutil
from collections.abc import Iterable
from contextlib import ExitStack
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
                    info, blocks = audio.stream_song(manifest.path(track, MIXTURE))
                    rate_hz = info.sample_rate_hz
                    write_estimates(
                        done,
                        separator.separate_stream(blocks, sample_rate_hz=rate_hz),
                        channels=info.channels,
                        sample_rate_hz=rate_hz,
                        subtype=subtype,
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
    estimates: Iterable[dict[str, Waveform]],
    *,
    channels: int,
    sample_rate_hz: int,
    subtype: audio.Subtype,
) -> None:
    """Writes <stem>.wav files, part by part, into a folder that gets its name when it is whole.

    Args:
        folder: the final name.
        estimates: parts of each stem, as Separator.separate_stream yields them.
        channels: of the song.
        sample_rate_hz: of the song.
        subtype: of the files.

    Raises:
        UserError: a file cannot be written, or what the parts raise; then nothing is left.
    """
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    made = [parent for parent in temporary.parents if not parent.exists()]
    temporary.mkdir(parents=True)
    try:
        with ExitStack() as files:
            wavs: dict[str, audio.WavWriter] = {}
            for parts in estimates:
                for stem, waveform in parts.items():
                    if stem not in wavs:
                        wav = audio.open_wav(
                            temporary / f"{stem}.wav",
                            channels=channels,
                            sample_rate_hz=sample_rate_hz,
                            subtype=subtype,
                        )
                        wavs[stem] = files.enter_context(wav)
                    wavs[stem].write(waveform)
        publish(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        for parent in made:
            parent.rmdir()
        raise


if __name__ == "__main__":
    raise SystemExit(run_main(main))
