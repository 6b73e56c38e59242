"""Windows of sound: the stems' WAV files read by offset, changed, summed and transformed.

The mixture is the sum of the stems, so it stays true when they are changed. Where corpus.stems may
not be all of a song, what is left of its mixture is one more part of that sum. Each window is the
work of one thread: it reads its excerpts, and computes the STFT of the mixture and of the targets
only. NumPy and SciPy do that, not a graph: on two cores, a batch of four windows of 256 frames with
mixture and one stem takes 87 ms of one core's time, a TensorFlow graph 165 ms and a compiled one 92
ms, whose threads also compete with those of the step; and a window's values then depend on nothing
but the window. A file is opened for each excerpt, which takes 0.1 ms of 1 to 4: no number of open
files grows with the corpus, and no thread waits for another's.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from stemforge import storage
from stemforge.errors import UserError
from stemforge.features.audio.ffmpeg import AudioError
from stemforge.features.audio.files import as_stereo, file_info, read_audio
from stemforge.features.corpus.manifest import Manifest, Track
from stemforge.features.corpus.sources import MIXTURE
from stemforge.features.shards.reading import CHANNELS, FeatureSet
from stemforge.features.signal.framing import Framing
from stemforge.features.signal.stft import Waveform, magnitude_stft, stft
from stemforge.train.augmentation import Take
from stemforge.train.batch import Batch

AGAIN = "run `dvc repro decode features`"
REST = "rest of the mixture"  # with blanks, which no stem's name has


@dataclass(frozen=True)
class Sound:
    """The WAV files of all songs that features have windows of.

    Attributes:
        files: by song and source; the mixture is used only where `is_complete` is false.
        stems: all of the corpus, in the order in which they are summed.
        is_complete: whether they are known to be all of each song.
    """

    files: Mapping[str, Mapping[str, Path]]
    stems: tuple[str, ...]
    is_complete: bool

    @property
    def parts(self) -> tuple[str, ...]:
        """What a mixture is the sum of, in this order: the stems, and the rest, if any."""
        return self.stems if self.is_complete else (*self.stems, REST)

    def read(self, song: str, part: str, start: int, samples: int) -> Waveform:
        """An excerpt.

        Args:
            song: its name.
            part: one of `parts`.
            start: first sample.
            samples: how many.

        Returns:
            float32 [samples, 2], full scale at 1.

        Raises:
            UserError: the file cannot be read, or ends before the excerpt does.
        """
        if part == REST:
            rest = self.read(song, MIXTURE, start, samples).copy()
            for stem in self.stems:
                rest -= self.read(song, stem, start, samples)
            return rest
        path = self.files[song][part]
        waveform = read_audio(path, start=start, samples=samples)
        if len(waveform) != samples:
            raise UserError(f"{path}: changed since training began: {AGAIN}")
        return as_stereo(waveform)


def find_sound(features: FeatureSet, manifest: Manifest, copies: Manifest | None = None) -> Sound:
    """Finds the files of all songs that features have windows of, and checks their lengths.

    Args:
        features: of the train and valid splits.
        manifest: of the corpus that the features are of.
        copies: the same of copies of its songs; None: the features have none.

    Raises:
        UserError: the corpus is remote, the features are of another corpus, or a file is missing
            or has changed its length.
    """
    if manifest.corpus:
        raise UserError(
            f"train.input=waveforms: the sound is at {manifest.corpus}: copy the corpus to this "
            "machine and set corpus.root, or set train.input=features"
        )
    known = {
        track.name: (track, one)
        for one in (manifest, *([copies] if copies else []))
        for track in one.tracks
    }
    ends: dict[str, int] = {}
    for split in ("train", "valid"):
        for run in features.reader(split).runs:
            end = features.framing.span(run.first_frame + run.frames)
            ends[run.track] = max(end, ends.get(run.track, 0))
    files = {}
    for name, end in ends.items():
        track, one = known.get(name, (None, manifest))
        if track is None or track.samples < end or one.stems != (*features.info["stems"],):
            raise UserError(
                f"train.input=waveforms: {features.root} was not made of the decoded corpus: see "
                f"{name!r}: {AGAIN}"
            )
        files[name] = _files_of(track, one)
    return Sound(files, manifest.stems, all(known[name][0].is_complete for name in files))


def _files_of(track: Track, manifest: Manifest) -> dict[str, Path]:
    root = Path(storage.absolute(manifest.audio_root.as_posix()))
    files = {source.name: root / source.path for source in track.sources}
    for path in files.values():
        if not path.is_file():
            raise UserError(f"{path}: no such file, but the manifest names it: {AGAIN}")
        try:
            found = file_info(path)
        except AudioError as error:
            raise UserError(f"{error}: {AGAIN}") from None
        if (found.samples, found.sample_rate_hz) != (track.samples, track.sample_rate_hz):
            raise UserError(
                f"{path}: {found.samples} samples at {found.sample_rate_hz} Hz, but "
                f"{track.samples} at {track.sample_rate_hz} Hz when it was decoded: {AGAIN}"
            )
    return files


@dataclass(frozen=True)
class SoundSource:
    """Makes batches of sound.

    Attributes:
        sound: the files.
        framing: of the STFT.
        bins: how many of the lowest are kept.
        stems: targets.
        window_frames: frames of a window.
        phases: whether batches hold the mixture's phases.
        waveforms: whether they hold the targets' sound.
    """

    sound: Sound
    framing: Framing
    bins: int
    stems: tuple[str, ...]
    window_frames: int
    phases: bool
    waveforms: bool

    def start(
        self, pool: Executor, windows: Sequence[Mapping[str, Take]], device: str | None
    ) -> Callable[[], Batch]:
        """Starts reading a batch; the function that it returns waits for it.

        Args:
            pool: of reading threads, which take what they are given in this order.
            windows: for each, where to read all parts of the mixture.
            device: that gets them; None: TensorFlow's default.

        Raises:
            UserError: (the returned function) a file has changed.
        """
        whole = self._empty(len(windows))
        parts = [pool.submit(self._fill, whole, n, window) for n, window in enumerate(windows)]
        # A thread that waits here for the windows blocks none: they were taken before it.
        return pool.submit(self._join, whole, parts, device).result

    def _empty(self, windows: int) -> Batch:
        """Arrays for a batch; threads fill them."""
        spectra = (windows, self.window_frames, self.bins, CHANNELS)
        sounds = (windows, self.framing.span(self.window_frames), CHANNELS)
        return Batch(
            np.empty(spectra, np.float32),
            {stem: np.empty(spectra, np.float32) for stem in self.stems},
            np.empty(spectra, np.float32) if self.phases else None,
            {s: np.empty(sounds, np.float32) for s in self.stems} if self.waveforms else None,
            self.framing,
        )

    def _fill(self, whole: Batch, number: int, window: Mapping[str, Take]) -> None:
        """Computes one window of a batch."""
        samples = self.framing.span(self.window_frames)
        mixture = np.zeros((CHANNELS, samples), np.float32).T  # in memory as what is read
        for part in self.sound.parts:
            waveform = self._read(part, window[part], samples)
            mixture += waveform
            if part in whole.stems:
                whole.stems[part][number] = self._magnitudes(waveform)
                if whole.waveforms is not None:
                    whole.waveforms[part][number] = waveform
        if whole.phases is None:
            whole.mixture[number] = self._magnitudes(mixture)
            return
        spectrum = stft(mixture, self.framing)[:, : self.bins]
        whole.mixture[number], whole.phases[number] = np.abs(spectrum), np.angle(spectrum)

    def _read(self, part: str, take: Take, samples: int) -> Waveform:
        run, first = take.place
        start = (run.first_frame + first) * self.framing.step_samples
        waveform = self.sound.read(run.track, part, start, samples)
        return waveform if take.change is None else take.change.apply(waveform)

    def _magnitudes(self, waveform: Waveform) -> NDArray[np.float32]:
        return magnitude_stft(waveform, self.framing, bins=self.bins)

    @staticmethod
    def _join(whole: Batch, parts: Sequence[Future[None]], device: str | None) -> Batch:
        """The batch as the device's tensors, when all its windows are there."""
        for part in parts:
            part.result()
        with tf.device(device):
            batch: Batch = tf.nest.map_structure(tf.constant, whole)
        return batch
