"""One training run: from parameters and features to a published model."""

import hashlib
import json
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

import stemforge
from stemforge.code import code_sha256
from stemforge.errors import IncompleteError, UserError
from stemforge.features.corpus.manifest import Manifest
from stemforge.features.corpus.sources import JOINT, MIXTURE, PHASE
from stemforge.features.shards.reading import FeatureSet
from stemforge.machine import has_bfloat16
from stemforge.pipelines.code import TRAINING
from stemforge.pipelines.console import progress, say
from stemforge.pipelines.params import Params, read_params
from stemforge.pipelines.paths import RUNS, TRACKS
from stemforge.pipelines.running.feature_cache import local_features
from stemforge.pipelines.running.feature_places import PLACE, recorded_features
from stemforge.pipelines.running.heartbeat import heart
from stemforge.pipelines.running.manifests import read_manifests
from stemforge.pipelines.running.monitor import RunMonitor
from stemforge.pipelines.running.strategies import make_cluster
from stemforge.pipelines.running.training_results import (
    clear_finished,
    note_session,
    publish_model,
    work_identity,
)
from stemforge.pipelines.running.validation_sdr import Song, ValidationSDR, read_songs
from stemforge.pipelines.running.work import work_folder
from stemforge.pipelines.train_section import Train
from stemforge.train.checkpoints import State
from stemforge.train.cluster import Cluster
from stemforge.train.config import Optimization, Precision, TrainConfig
from stemforge.train.dataset import Dataset
from stemforge.train.losses import Objective
from stemforge.train.model import Model, load_model, weights_of
from stemforge.train.nets.protocol import Net
from stemforge.train.presets import describe_preset
from stemforge.train.trainer import VALID_SDR, Report, Trainer, best_row
from stemforge.train.waveforms import Sound, find_sound


@dataclass(frozen=True)
class Task:
    """What one run trains, and the features for it.

    Attributes:
        name: one of models.
        stems: targets.
        params: all of params.yaml.
        features: the opened folder.
        net: the nets' kind and shape.
        config: how they are trained.
        start: weights to start from, by name; None: fresh ones.
        songs: whose SDR the chief measures.
        manifests: of the corpus and of its copies, where windows are read from their sound; else
            empty.
        sound: the WAV files of these, once they were found; else None.
    """

    name: str
    stems: tuple[str, ...]
    params: Params
    features: FeatureSet
    net: Net
    config: TrainConfig
    start: dict[str, Any] | None
    songs: list[Song]
    manifests: tuple[Manifest, ...]
    sound: Sound | None


def run(name: str, features_folder: str | None, *, strategy: str) -> None:
    """Trains one model, or resumes a killed or finished run.

    Args:
        name: one of models.
        features_folder: see open_features.
        strategy: see strategies.make_cluster.
    """
    cluster = make_cluster(strategy)
    with cluster.guarded(), ExitStack() as reading:
        task = agree(cluster, lambda: prepare(name, features_folder, chief=cluster.is_chief))
        local = with_local_features(task, remember=cluster.is_chief)
        task = together(cluster, lambda: reading.enter_context(local))
        if cluster.is_chief:
            identity = work_identity(task.params, task.features)
            with work_folder(f"train-{task.name}", *identity, keep=True) as work:
                train(task, cluster, work)
        else:
            train(task, cluster, None)


def prepare(name: str, features_folder: str | None, *, chief: bool) -> Task:
    """Reads and checks all inputs of a run, but not the features' shards.

    Raises:
        UserError: an input is missing or does not fit.
    """
    params = read_params()
    features = open_features(features_folder, params)
    stems = stems_of(name, params)
    net, config = net_and_config(params)
    start = starting_weights(params.train, name, net, features)
    many = config.sdr_songs if chief else None  # other workers have no decoded songs
    songs = [] if many is None else read_songs(stems, many)
    found = read_manifests(params) if config.input == "waveforms" else ()
    manifests = tuple(manifest for manifest in found if manifest)
    return Task(name, stems, params, features, net, config, start, songs, manifests, None)


@contextmanager
def with_local_features(task: Task, *, remember: bool) -> Iterator[Task]:
    """The task with features, and sound where it is read, on this machine; files were checked.

    Args:
        task: what `prepare` returned.
        remember: see local_features; of several workers only the chief does, since the others
            write nothing where they can help it.

    Raises:
        UserError: a file is missing or damaged.
    """
    phases = task.params.monitor.audio or Objective(task.config.loss).needs_phases
    stored = phases and task.features.info["mixture_phase"] is not None  # else refused later
    sources: tuple[str, ...] = (MIXTURE, *task.stems, *((PHASE,) if stored else ()))
    if task.manifests:
        sources = ()  # the index alone, which says where windows are
    advice = (
        "compute the features again (dvc repro --force --single-item features), or set "
        f"{PLACE} to where they are"
    )
    with local_features(task.features, sources, advice=advice, remember=remember) as features:
        sound = find_sound(features, *task.manifests) if task.manifests else None
        yield replace(task, features=features, sound=sound)


def agree(cluster: Cluster, prepare: Callable[[], Task]) -> Task:
    """Prepares the task on all workers, and checks that all have the same.

    Raises:
        UserError: `prepare` raised it, or a worker's task differs from the chief's.
        IncompleteError: another worker cannot start.
    """
    task = together(cluster, prepare)
    if cluster.workers == 1:
        return task
    parts = {
        "--stem": task.name,
        "features": task.features.sha256,
        "corpus.stems": task.params.corpus.stems,
        str(TRACKS): _sound_of(task.manifests),
        **{f"train.{key}": value for key, value in task.params.train.model_dump().items()},
        **{f"monitor.{key}": value for key, value in task.params.monitor.model_dump().items()},
    }
    table = cluster.gather([_fingerprint(part) for part in parts.values()])
    for worker, row in enumerate(table):
        if differing := [name for name, same in zip(parts, row == table[0], strict=True)
                         if not same]:  # fmt: skip
            raise UserError(
                f"worker {worker} differs from the chief in {', '.join(differing)}: use the same "
                "params.yaml, features and arguments on all workers"
            )
    return task


def together(cluster: Cluster, work: Callable[[], Task]) -> Task:
    """Does some work on all workers.

    Raises:
        UserError, OSError: `work` raised it, or a worker has other versions than the chief.
        IncompleteError: another worker's `work` failed.
    """
    if cluster.workers == 1:
        return work()
    problem: Exception | None = None
    try:
        task = work()
    except (UserError, OSError) as error:
        problem = error
    versions = [stemforge.__version__, tf.__version__, keras.__version__, code_sha256(TRAINING)]
    table = cluster.gather([problem is None, _fingerprint(versions)])
    if problem is not None:
        raise problem
    for worker, (ready, version) in enumerate(table):
        if not ready:
            raise IncompleteError(f"worker {worker} cannot start: see its output for the reason")
        if version != table[0, 1]:
            raise UserError(
                f"worker {worker}: its version or code of stemforge, or its version of tensorflow "
                "or keras, differs from the chief's: install the same on all workers"
            )
    return task


def _sound_of(manifests: Sequence[Manifest]) -> list[str]:
    """The checksums of all samples; where the files are may differ between machines."""
    tracks = [track for manifest in manifests for track in manifest.tracks]
    return [source.pcm_sha256 for track in tracks for source in track.sources]


def _fingerprint(value: Any) -> int:
    text = json.dumps(value, sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])


def train(task: Task, cluster: Cluster, work: Path | None) -> None:
    """Trains. The chief, which alone has a work folder, then publishes the model."""
    name, params = task.name, task.params
    if work is not None:
        for line in describe_preset(params.train.model_dump(), params.train.net):
            say(f"train@{name}: {line}")
        if is_emulated(params.train.precision):
            say(
                f"train@{name}: train.precision={params.train.precision}: this CPU has no "
                "instructions for it: float32 is many times as fast"
            )
        clear_finished(work, task.config)
        if note_session(work):
            say(
                f"train@{name}: resumes what other code or packages began: `stemforge release` "
                "will refuse it"
            )
    trainer = Trainer(
        task.net, task.config, stems=task.stems, work=work, weights=task.start, cluster=cluster
    )
    dataset = Dataset(
        task.features,
        stems=task.stems,
        window_frames=task.net.frames,
        batch_size=task.config.batch_size,
        accumulate_steps=task.config.accumulate_steps,
        sound=task.sound,
        augmentation=task.config.augmentation,
    )
    framing = task.features.framing
    model = Model(
        stems=task.stems,
        net=task.net,
        frame_length_samples=framing.length_samples,
        frame_step_samples=framing.step_samples,
        sample_rate_hz=task.features.info["sample_rate_hz"],
        provenance={},
        keras_model=trainer.model,
    )
    waiting = fit(trainer, dataset, model, task, chief=work is not None)
    if work is not None:
        publish_model(trainer, model, params, task.features, work)
        best = describe_best(trainer.state)
        say(
            f"train@{name}: best validation {best} of {trainer.state.step}; "
            f"waited for input {waiting:.1%} of the time"
        )
    cluster.wait()  # a worker that ends before the chief would look like one that died


def is_emulated(precision: Precision) -> bool:
    """Whether software emulates this precision: there is no GPU, and the CPU cannot compute it."""
    slow = precision == "mixed_bfloat16" and not has_bfloat16()
    return slow and not tf.config.list_physical_devices("GPU")


def open_features(folder: str | None, params: Params) -> FeatureSet:
    """Opens a features folder and compares it with the parameters.

    Args:
        folder: local or a URL; None: the features of stage features.
        params: all of params.yaml.

    Raises:
        UserError: it is not a finished features folder, or it was made with other parameters.
    """
    features = FeatureSet.read_info(folder) if folder else recorded_features()
    wanted, info = params.features, features.info
    for what, ours, theirs in (
        ("corpus.stems", params.corpus.stems, info["stems"]),
        ("features.bins", wanted.bins, features.bins),
        ("features.frame_length_samples", wanted.frame_length_samples,
         features.framing.length_samples),
        ("features.frame_step_samples", wanted.frame_step_samples, features.framing.step_samples),
    ):  # fmt: skip
        if ours != theirs:
            raise UserError(
                f"{features.root}: made with {what}={theirs}, but params.yaml has {ours}: compute "
                f"the features again or set {what}={theirs}"
            )
    return features


def stems_of(name: str, params: Params) -> tuple[str, ...]:
    """The stems of one of models.

    Raises:
        UserError: the name is not in models.
    """
    if name not in params.models:
        raise UserError(f"--stem {name}: must be one of models: {', '.join(params.models)}")
    return tuple(params.corpus.stems) if name == JOINT else (name,)


def net_and_config(params: Params) -> tuple[Net, TrainConfig]:
    """The net and the run's configuration, from the sections train and monitor."""
    values = params.train.model_dump() | params.monitor.model_dump()

    def pick(kind: type[Any], **more: Any) -> Any:
        return kind(**{k: values[k] for k in kind.__dataclass_fields__ if k not in more}, **more)

    augmentation = params.train.augmentation and params.train.augmentation.read()
    config = pick(TrainConfig, optimization=pick(Optimization), augmentation=augmentation)
    return params.train.net, config


def starting_weights(
    train: Train, name: str, net: Net, features: FeatureSet
) -> dict[str, Any] | None:
    """Weights of the model of that name in train.init_from; None where it is null.

    Raises:
        UserError: there is no such model, or its net, STFT or sample rate differs.
    """
    if train.init_from is None:
        return None
    model = load_model(Path(train.init_from) / name)
    theirs = model.net.fields() | {"frames": net.frames}  # weights do not depend on frames
    for field, ours in net.fields().items():
        if field not in net.training_only and theirs.get(field) != ours:
            place = "features.bins" if field == "bins" else f"train.net.{field}"
            raise UserError(
                f"train.init_from={train.init_from}: its model {name} has {field}="
                f"{theirs.get(field)}, but {place}={ours}: the nets must be the same"
            )
    input_of = {
        "frame_length_samples": features.framing.length_samples,
        "frame_step_samples": features.framing.step_samples,
        "sample_rate_hz": features.info["sample_rate_hz"],
    }
    for field, ours in input_of.items():
        if (value := getattr(model, field)) != ours:
            raise UserError(
                f"train.init_from={train.init_from}: its model {name} is for {field}={value}, but "
                f"the features have {ours}: both must be the same"
            )
    return weights_of(model.keras_model)


def describe_best(state: State) -> str:
    """What the best validation has measured, and its step."""
    row = best_row(state)
    sdr = f", SDR {row[VALID_SDR]:.2f} dB" if VALID_SDR in row else ""
    return f"loss {row['valid_loss']:.4f}{sdr} at step {row['step']}"


def fit(trainer: Trainer, dataset: Dataset, model: Model, task: Task, *, chief: bool) -> float:
    """Runs the training; the chief shows a progress bar and writes to monitors.

    Returns:
        The share of the time spent waiting for input.
    """
    name, config, every = task.name, task.config, task.params.monitor.export_every_steps
    seconds_a_step = (
        dataset.step_windows * model.net.frames * model.frame_step_samples / model.sample_rate_hz
    )
    measure = ValidationSDR(model, task.songs).measure if task.songs else None
    waiting = 0.0
    first = trainer.state.step
    with ExitStack() as closing:
        monitor = bar = None
        if chief:
            monitor = closing.enter_context(
                RunMonitor(trainer, dataset, task.params.monitor, RUNS / name)
            )
            bar = closing.enter_context(
                progress(config.steps, label=f"train@{name}", unit="step", done=first)
            )

        def report(report: Report) -> None:
            nonlocal waiting
            state, waiting = report.state, report.waiting
            heart.step = report.done
            if bar is None or monitor is None:
                return
            rate = (state.step - first) / max(bar.format_dict["elapsed"], 1e-6)
            best = describe_best(state) if state.validations.best else "none yet"
            bar.set_postfix_str(
                f"loss {report.loss:.4f}, best validation {best}, "
                f"{rate * seconds_a_step:.0f} audio-s/s, waiting {waiting:.1%}",
                refresh=False,
            )
            bar.update()
            monitor.report(report)
            if every and state.step % every == 0:
                trainer.collect(dataset)
                monitor.export(model)

        noted = closing.enter_context(noted_signals())
        trainer.fit(
            dataset,
            report=report,
            should_stop=lambda: noted[0] if noted else 0,
            measure_sdr=measure,
        )
    return waiting


@contextmanager
def noted_signals() -> Iterator[list[int]]:
    """A list of the SIGTERM and SIGINT that came; a second one of them ends the process at once."""
    noted: list[int] = []

    def note(number: int, frame: object) -> None:
        noted.append(number)
        signal.signal(number, previous[number])

    previous: dict[int, Any] = {
        number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield noted
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
