"""What copies of training songs are; no library is loaded here."""

from dataclasses import dataclass

from stemforge.errors import UserError

# Together they stay between half and twice the speed, where the filter of features/audio/stretching
# joins whole pieces.
MOST_SEMITONES = 6.0
TEMPOS = (0.75, 1.33)


@dataclass(frozen=True)
class CopyConfig:
    """How many copies are made, and how far they are from their songs.

    Attributes:
        per_song: copies of each training song.
        pitch_semitones: a copy's pitch is uniform between these two.
        tempo: a copy's speed is uniform between these two; 1 is the song's own.
        seed: of both.
    """

    per_song: int
    pitch_semitones: tuple[float, float]
    tempo: tuple[float, float]
    seed: int

    def check(self) -> None:
        """Refuses what no copy can be made with, and copies that are the same as their songs.

        Raises:
            UserError: it does.
        """
        if self.per_song < 0:
            raise UserError(f"per_song={self.per_song}: must be 0, which makes none, or more")
        for name, unit, least, most in (
            ("pitch_semitones", "semitones", -MOST_SEMITONES, MOST_SEMITONES),
            ("tempo", "times the song's speed", *TEMPOS),
        ):
            low, high = getattr(self, name)
            told = f"{name}=[{low:g}, {high:g}]"
            if not least <= low <= most or not least <= high <= most:
                raise UserError(f"{told}: must be from {least:g} to {most:g} {unit}")
            if low > high:
                raise UserError(
                    f"{told}: not a range: the first number must not be above the second"
                )
        if self.pitch_semitones == (0.0, 0.0) and self.tempo == (1.0, 1.0):
            raise UserError(
                "pitch_semitones=[0, 0] with tempo=[1, 1]: copies would be the same as their "
                "songs: set a range, or per_song=0 for no copies"
            )
