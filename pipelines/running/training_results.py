"""What a training run keeps in its work folder, and the model that it publishes.

model.json names all that made the model: features, parameters, and each code, Python and set of
packages that has trained it.
"""

import json
import platform
from pathlib import Path
from typing import Any

import stemforge
from stemforge import storage
from stemforge.code import code_sha256
from stemforge.features.shards.reading import FeatureSet
from stemforge.pipelines.code import TRAINING
from stemforge.pipelines.params import Params
from stemforge.pipelines.paths import COPY_TRACKS, MODELS, TRACKS
from stemforge.pipelines.running.extras import versions
from stemforge.pipelines.running.work import publish
from stemforge.train.checkpoints import Checkpoints
from stemforge.train.config import TrainConfig
from stemforge.train.model import Model, save_model
from stemforge.train.model_files import WEIGHTS
from stemforge.train.trainer import VALID_SDR, Trainer, best_row, history_csv, is_finished
from stemforge.unfinished import finishing

TRAINED_BY = "trained_by.json"  # file in a work folder: what has trained the run so far
PUBLISHED = "published"  # the same: the run's result was published


def work_identity(params: Params, features: FeatureSet) -> list[Any]:
    """All that a checkpoint depends on.

    The number of steps is not part of it, unless the learning rate depends on it. So a finished
    run can be continued with more steps.
    """
    values = params.train.model_dump()
    del values["preset"]  # its values count
    if params.train.schedule != "cosine":
        del values["steps"]
    if params.train.init_from is not None:
        start = Path(params.train.init_from)
        weights = storage.visible(start.glob(f"*/{WEIGHTS}"), start)
        values["init_from"] = [storage.file_sha256(path) for path in weights]
    heard = params.train.sdr_songs is not None or params.train.input == "waveforms"
    files = [TRACKS] if heard else []
    if params.train.input == "waveforms" and params.copies.per_song:
        files.append(COPY_TRACKS)
    return [values, features.sha256, *map(storage.file_sha256, files)]


def trained_by() -> dict[str, Any]:
    """The code, Python and packages of this process, as model.json has them."""
    return {
        "code": {"sha256": code_sha256(TRAINING)},
        "packages": {"stemforge": stemforge.__version__, **versions("train")},
        "python": platform.python_version(),
    }


def note_session(work: Path) -> list[dict[str, Any]]:
    """Notes what trains now beside the run's checkpoints.

    Returns:
        What else has trained the run so far: it was stopped, and code or packages changed.
    """
    place, now = work / TRAINED_BY, trained_by()
    resumes = place.exists() and Checkpoints(work).latest() is not None
    before = json.loads(place.read_text(encoding="utf-8")) if resumes else []
    others = [session for session in before if session != now]
    with finishing(place) as fresh:
        fresh.write_text(json.dumps([*others, now]), encoding="utf-8")
    return others


def clear_finished(work: Path, config: TrainConfig) -> None:
    """Removes checkpoints from which a run of this many steps cannot resume.

    These are checkpoints of a run that was published after this many steps, and those of more
    steps. In both cases the run starts again from the beginning.
    """
    published, checkpoints = work / PUBLISHED, Checkpoints(work)
    state = checkpoints.latest()
    if state and (state.step > config.steps or (is_finished(state, config) and published.exists())):
        checkpoints.clear()
    published.unlink(missing_ok=True)


def publish_model(
    trainer: Trainer, model: Model, params: Params, features: FeatureSet, work: Path
) -> None:
    """Writes the model directory and renames it into models/."""
    best = best_row(trainer.state)
    values = {name: best[name] for name in ("valid_loss", VALID_SDR) if name in best}
    provenance = {
        **trained_by(),
        "began_with": note_session(work),
        "features_sha256": features.sha256,
        "train": params.train.model_dump(),
        "step": best["step"],
        **values,
    }
    out = work / "model"
    out.mkdir(exist_ok=True)
    save_model(out, model.with_provenance(provenance))
    (out / "history.csv").write_text(history_csv(trainer.state.history), encoding="utf-8")
    metrics = {"best_step": best["step"], **{f"best_{name}": v for name, v in values.items()}}
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    publish(out, MODELS / model.name)
    (work / PUBLISHED).touch()
