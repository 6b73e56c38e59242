import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile

from benchmarks.common import measure

RATE_HZ = 44100
SECONDS = 300
STEMS = ("vocals", "drums", "bass", "other")
SCORE = """
import sys
from contextlib import nullcontext
from pathlib import Path
from stemforge.eval.scoring.scores import MUSEVAL
from stemforge.pipelines.scoring.execution import score
from stemforge.pipelines.scoring.methods import Oracle
from stemforge.pipelines.scoring.plan import Job, TrackSources

folder, method = Path(sys.argv[1]), sys.argv[2]
files = {path.stem: path for path in folder.glob("*.wav")}
track = TrackSources("Song", lambda: nullcontext(files))
score(Job(method, track, Oracle(method), MUSEVAL, str(folder / "scores")), threads=2)
"""


def write_song(folder: Path) -> None:
    """Coloured noise of 16 bits, ten seconds at a time: a child's peak counts its parent's too."""
    random = np.random.default_rng(1)
    files = {
        name: soundfile.SoundFile(folder / f"{name}.wav", "w", RATE_HZ, 2, "PCM_16")
        for name in (*STEMS, "mixture")
    }
    for _ in range(SECONDS // 10):
        total = np.zeros((10 * RATE_HZ, 2))
        for number, name in enumerate(STEMS):
            noise = random.normal(0, 0.05, total.shape)
            stem = scipy.signal.lfilter([1.0], [1.0, -0.2 * (number + 1)], noise, axis=0)
            files[name].write(stem)
            total += stem
        files["mixture"].write(total)
    for file in files.values():
        file.close()


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.parametrize("method", ["IRM1", "MWF"])
def test_an_oracle_of_five_minutes_needs_no_more_than_1_5_gb(tmp_path: Path, method: str) -> None:
    write_song(tmp_path)
    _, peak_mb = measure([sys.executable, "-c", SCORE, tmp_path, method])
    assert (tmp_path / "scores" / method / "test" / "Song.json").is_file()
    assert peak_mb < 1500.0
