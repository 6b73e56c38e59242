"""Stage train@<stem>: data/features -> models/<stem>/ (weights, model.json, history, metrics).

With train.head=softmax the one stage is train@joint, of all stems.
"""

import argparse
import json
import os
import signal
from pathlib import Path
from typing import Any

from pipelines.tensorflow_quietly import tf  # isort: skip (before all that imports it)

from eval.export import write_saved_model
from features import storage
from features.errors import UserError
from features.feature_set import FeatureSet
from features.models import JOINT
from pipelines.console import progress, run_main, say
from pipelines.monitor import RunMonitor
from pipelines.params import SPLEETER, Params, Train, read_params
from pipelines.paths import FEATURES, MODELS, RUNS
from pipelines.work import file_sha256, publish, work_folder
from train import unet
from train.config import Net, Optimization, TrainConfig
from train.dataset import Dataset
from train.trainer import Report, Trainer, history_csv

STRATEGY = "STEMFORGE_STRATEGY"
STRATEGIES = ("default", "mirrored")
PUBLISHED = "published"  # in a work folder: its last result is a stage's output


def main() -> None:
    """Trains one model, or goes on where a killed or finished run left off."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.train_stem")
    parser.add_argument(
        "--stem", required=True, help=f"name in train.models: a stem, or {JOINT} for all of them"
    )
    parser.add_argument(
        "--features",
        default=str(FEATURES),
        metavar="FOLDER",
        help="features folder, local or a URL such as gs://bucket/features (%(default)s)",
    )
    parser.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default=os.environ.get(STRATEGY, "default"),
        help="mirrored: replicas on all GPUs, or on the logical CPUs of STEMFORGE_LOGICAL_CPUS, "
        f"share each batch (default: {STRATEGY}, else one device)",
    )
    arguments = parser.parse_args()
    strategy = make_strategy(arguments.strategy)
    params = read_params()
    name, train = arguments.stem, params.train
    features = open_features(arguments.features, params)
    stems = stems_of(name, params)
    net, config = net_and_config(train, features)
    start = starting_weights(train, name, net)
    with work_folder(f"train-{name}", *identity(params, features), keep=True) as work:
        if train.preset:
            say(f"train@{name}: preset {train.preset}: {preset_values(train)}")
        trainer = make_trainer(
            net, config, stems=stems, work=work, weights=start, strategy=strategy
        )
        dataset = Dataset(
            features, stems=stems, window_frames=net.frames, batch_size=config.batch_size
        )
        model = unet.Model(
            stems=stems,
            net=net,
            frame_length_samples=features.framing.length_samples,
            frame_step_samples=features.framing.step_samples,
            sample_rate_hz=features.info["sample_rate_hz"],
            provenance={},
            keras_model=trainer.model,
        )
        waiting = fit(trainer, dataset, model, config, params)
        publish_model(trainer, model, params, features, work)
    best_loss, best_step = trainer.state.best[0]
    say(
        f"train@{name}: best validation loss {best_loss:.4f} at step {best_step} of "
        f"{trainer.state.step}; waited for input {waiting:.1%} of the time"
    )


def open_features(folder: str, params: Params) -> FeatureSet:
    """Opens a features folder and compares it with the parameters.

    Raises:
        UserError: it is no finished one, or it was made with other parameters.
    """
    if not storage.is_local(folder):
        from pipelines.runners import pipeline_options

        pipeline_options([])  # hands STEMFORGE_BEAM_ARGS to Beam's filesystems
    features = FeatureSet.open(folder)
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
                f"{folder}: made with {what}={theirs}, but params.yaml has {ours}: compute the "
                "features again or use the parameters they were made with"
            )
    return features


def stems_of(name: str, params: Params) -> tuple[str, ...]:
    """The stems of one of train.models.

    Raises:
        UserError: it is none of them.
    """
    if name not in params.train.models:
        why = (
            "train.head=softmax shares each bin among all stems, so none is trained alone"
            if params.train.head == "softmax"
            else f"train.models has {', '.join(params.train.models)}"
        )
        raise UserError(f"--stem {name}: {why}")
    return tuple(params.corpus.stems) if name == JOINT else (name,)


def net_and_config(train: Train, features: FeatureSet) -> tuple[Net, TrainConfig]:
    """Sorts the train section into the nets' shape and the run's configuration."""
    values = train.model_dump() | {"bins": features.bins}

    def pick(kind: type[Any], **more: Any) -> Any:
        return kind(**{k: values[k] for k in kind.__dataclass_fields__ if k not in more}, **more)

    return pick(Net), pick(TrainConfig, optimization=pick(Optimization))


def preset_values(train: Train) -> str:
    """What a preset has set, in one line."""
    names = [*SPLEETER, "learning_rate"]
    return ", ".join(f"{name}={getattr(train, name)}" for name in names)


def starting_weights(train: Train, name: str, net: Net) -> dict[str, Any] | None:
    """Weights of the model of that name in train.init_from.

    Raises:
        UserError: there is none, or its net is another.
    """
    if train.init_from is None:
        return None
    model = unet.load_model(Path(train.init_from) / name)
    for field in ("bins", "width", "depth", "norm", "encoder_activation", "decoder_activation",
                  "head"):  # fmt: skip
        ours, theirs = getattr(net, field), getattr(model.net, field)
        if ours != theirs:
            place = "features.bins" if field == "bins" else f"train.{field}"
            raise UserError(
                f"train.init_from={train.init_from}: {name} there has {field}={theirs}, "
                f"but {place}={ours}"
            )
    return unet.weights(model.keras_model)


def identity(params: Params, features: FeatureSet) -> list[Any]:
    """What a checkpoint depends on.

    The number of steps is not part of it, unless the learning rate follows it: with more of
    them a finished run goes on.
    """
    values = params.train.model_dump()
    for name in ("preset", "models", "export_every_steps"):
        del values[name]
    if params.train.schedule != "cosine":
        del values["steps"]
    if params.train.init_from is not None:
        weights = sorted(Path(params.train.init_from).glob("*/weights.npz"))
        values["init_from"] = [file_sha256(path) for path in weights]
    return [values, features.sha256]


def make_strategy(name: str) -> Any:
    """TensorFlow's strategy of that name; None for one device.

    Raises:
        UserError: no such strategy (argparse does not check what the environment says).
    """
    if name not in STRATEGIES:
        raise UserError(f"{STRATEGY}={name}: none of {', '.join(STRATEGIES)}")
    if name == "default":
        return None
    gpus = tf.config.list_logical_devices("GPU")
    devices = [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
    say(f"train: {len(devices)} replicas: {', '.join(devices)}")
    return tf.distribute.MirroredStrategy(devices)


def make_trainer(net: Net, config: TrainConfig, *, work: Path, **more: Any) -> Trainer:
    """A trainer that goes on from what is in `work`, unless that is a finished result.

    A run that was published with as many steps has nothing to add, one of more steps is not
    what was asked for: it starts anew.
    """
    trainer = Trainer(net, config, work=work, **more)
    published = work / PUBLISHED
    if trainer.state.step > config.steps or (trainer.finished and published.exists()):
        trainer.checkpoints.clear()
        trainer = Trainer(net, config, work=work, **more)
    published.unlink(missing_ok=True)
    return trainer


def fit(
    trainer: Trainer, dataset: Dataset, model: unet.Model, config: TrainConfig, params: Params
) -> float:
    """Runs the training with a progress bar and monitors; returns the share of waiting."""
    name, every = model.name, params.train.export_every_steps
    seconds_a_step = (
        config.batch_size * model.net.frames * model.frame_step_samples / model.sample_rate_hz
    )
    noted: list[int] = []

    def note(number: int, frame: object) -> None:
        noted.append(number)
        signal.signal(number, previous[number])  # a second one ends it at once

    previous: dict[int, Any] = {
        number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)
    }
    waiting = 0.0
    first = trainer.state.step
    with (
        RunMonitor(trainer, dataset, params.monitor, RUNS / name) as monitor,
        progress(config.steps, label=f"train@{name}", unit="step") as bar,
    ):
        bar.initial = bar.n = first

        def report(report: Report) -> None:
            nonlocal waiting
            state, waiting = report.state, report.waiting
            rate = (state.step - first) / max(bar.format_dict["elapsed"], 1e-6)
            best = f"{state.best[0][0]:.4f}" if state.best else "none yet"
            bar.set_postfix_str(
                f"loss {report.loss:.4f}, best validation {best}, "
                f"{rate * seconds_a_step:.0f} audio-s/s, waiting {waiting:.1%}",
                refresh=False,
            )
            bar.update()
            monitor.report(report)
            if every and state.step % every == 0:
                with trainer.evaluating():
                    export_moment(model, state.step)

        try:
            trainer.fit(dataset, report=report, should_stop=lambda: noted[0] if noted else 0)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
    return waiting


def export_moment(model: unet.Model, step: int) -> None:
    """Writes runs/<model>/saved_model-<step>/."""
    out = RUNS / model.name / f"saved_model-{step:09d}"
    fresh = out.with_name(f".{out.name}.tmp")
    write_saved_model([model], fresh)
    publish(fresh, out)


def publish_model(
    trainer: Trainer, model: unet.Model, params: Params, features: FeatureSet, work: Path
) -> None:
    """Writes the model directory and renames it into models/."""
    best_loss, best_step = trainer.state.best[0]
    provenance = {
        "features_sha256": features.sha256,
        "train": params.train.model_dump(),
        "step": best_step,
        "valid_loss": best_loss,
    }
    out = work / "model"
    out.mkdir(exist_ok=True)
    unet.save_model(out, model.with_provenance(provenance))
    (out / "history.csv").write_text(history_csv(trainer.state.history), encoding="utf-8")
    metrics = {"best_step": best_step, "best_valid_loss": best_loss}
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    publish(out, MODELS / model.name)
    (work / PUBLISHED).touch()


if __name__ == "__main__":
    raise SystemExit(run_main(main))
