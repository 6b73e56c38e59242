"""Augmentation of training windows: what is done to each stem before the stems are summed.

Three of the changes of Uhlich et al., "Improving music source separation based on deep neural
networks through data augmentation and network blending" (ICASSP 2017), section 3: random gains,
swapped channels, and stems of different songs in one mixture. They scale amplitudes by 0.25 to
1.25, uniformly, which is -12.0 to 1.9 dB; Demucs (Defossez et al. 2019) takes the same range, and
flips the polarity too, with probability 0.5. Here gains are uniform in dB, since loudness is.

Every value is a function of (seed, step, place in the whole batch, stem) alone: a counter-based
generator, Philox (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), has the seed
as its key and the rest as its counter. So nothing depends on who computes a window, or what was
drawn before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stemforge.errors import UserError
from stemforge.features.shards.reading import Place, Run
from stemforge.features.signal.stft import Waveform
from stemforge.train.config import Augmentation
from stemforge.train.sampler import Sampler

_WORD = 2**64 - 1
_WINDOW = 0  # the stream of numbers of a window; its stems' streams follow


@dataclass(frozen=True)
class Change:
    """What is done to one stem of a window.

    Attributes:
        factor: of its samples; negative where the polarity is flipped.
        swapped: whether the channels change places.
    """

    factor: float
    swapped: bool

    def apply(self, waveform: Waveform) -> Waveform:
        """The changed stem; float32 [samples, 2]."""
        channels = waveform[:, ::-1] if self.swapped else waveform
        return channels * np.float32(self.factor)


@dataclass(frozen=True)
class Take:
    """One part of a training window.

    Attributes:
        place: where it is read.
        change: what is done to it; None: nothing.
    """

    place: Place
    change: Change | None = None


@dataclass(frozen=True)
class Mixer:
    """Draws the stems of training windows.

    Attributes:
        augmentation: how much they are changed.
        seed: of all draws.
        sampler: draws windows of other songs.
        runs: that the sampler's windows are in.
        parts: what a mixture is the sum of: all stems of the corpus, in its order, and its rest.
        kept: the stem that stays where the window is.
    """

    augmentation: Augmentation
    seed: int
    sampler: Sampler
    runs: Sequence[Run]
    parts: Sequence[str]
    kept: str

    def check(self) -> None:
        """Refuses remixing in a corpus of one song.

        Raises:
            UserError: it does.
        """
        if self.augmentation.remix and self.sampler.songs < 2:
            raise UserError(
                f"train.augmentation.remix={self.augmentation.remix:g}: the train split has one "
                "song with a window, and remixing takes stems of others: set it to 0 or add songs "
                "to the corpus"
            )

    def takes(self, step: int, place: int, window: Place) -> dict[str, Take]:
        """All parts of one window.

        Args:
            step: of the run.
            place: of the window in the step's whole batch.
            window: where it is.
        """
        remixed = self._uniform(step, place, _WINDOW, 1)[0] < self.augmentation.remix
        found = {}
        for number, part in enumerate(self.parts, _WINDOW + 1):
            values = self._uniform(step, place, number, 5)
            where = window
            if remixed and part != self.kept:
                other = self.sampler.draw_elsewhere(window[0].song, (values[3], values[4]))
                where = self.runs[other.run], other.start
            found[part] = Take(where, self._change(values))
        return found

    def _change(self, values: Sequence[float]) -> Change:
        gain, swap, flip = values[:3]
        low, high = self.augmentation.gain_db
        factor = 10.0 ** ((low + (high - low) * gain) / 20.0)
        flipped = flip < self.augmentation.flip_polarity
        return Change(-factor if flipped else factor, swap < self.augmentation.swap_channels)

    def _uniform(self, step: int, place: int, stream: int, count: int) -> list[float]:
        """Numbers in [0, 1); the generator counts up in the first word only."""
        counter = np.array([0, stream, place, step], np.uint64)
        key = np.array([self.seed & _WORD, 0], np.uint64)
        values: list[float] = (
            np.random.Generator(np.random.Philox(counter=counter, key=key)).random(count).tolist()
        )
        return values
