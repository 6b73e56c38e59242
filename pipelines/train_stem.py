"""Stage train@<stem>: data/features -> models/<stem>/ (weights, model.json, history.csv)."""

import argparse
from typing import Any

from pipelines.tensorflow_quietly import tf  # isort: skip (before all that imports it)

from features import storage
from features.errors import UserError
from features.feature_set import FeatureSet
from pipelines.console import progress, run_main, say
from pipelines.params import Train, read_params
from pipelines.paths import FEATURES, MODELS, RUNS
from pipelines.work import publish, work_folder
from train import unet
from train.trainer import State, TrainConfig, Trainer, history_csv

NET_FIELDS = set(unet.Net.__dataclass_fields__)


def main() -> None:
    """Trains one stem's net, or goes on where a killed run left off."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.train_stem")
    parser.add_argument("--stem", required=True, help="name of the stem, as in corpus.stems")
    parser.add_argument(
        "--features",
        default=str(FEATURES),
        metavar="FOLDER",
        help="features folder, local or a URL such as gs://bucket/features (%(default)s)",
    )
    arguments = parser.parse_args()
    stem, folder = arguments.stem, arguments.features
    params = read_params().train
    if not storage.is_local(folder):
        configure_filesystems()
    features = FeatureSet.open(folder)
    if stem not in features.info["stems"]:
        raise UserError(f"--stem {stem}: {folder} holds {', '.join(features.info['stems'])}")
    net, config = net_and_config(params, features)
    with work_folder(f"train-{stem}", params.model_dump(), features.sha256) as work:
        trainer = Trainer(net, config, stem=stem, work=work)
        fit(trainer, features, stem, config, net)
        model = unet.StemModel(
            stem=stem,
            net=net,
            frame_length_samples=features.framing.length_samples,
            frame_step_samples=features.framing.step_samples,
            sample_rate_hz=features.info["sample_rate_hz"],
            provenance={
                "features_sha256": features.sha256,
                "train": params.model_dump(),
                "step": trainer.state.best_step,
                "valid_loss": trainer.state.best_loss,
            },
            keras_model=trainer.model,
        )
        out = work / "model"
        out.mkdir(exist_ok=True)
        unet.save_model(out, model)
        history = history_csv(trainer.state.history)
        (out / "history.csv").write_text(history, encoding="utf-8")
        publish(out, MODELS / stem)
    best = trainer.state
    say(f"train@{stem}: best validation loss {best.best_loss:.4f} at step {best.best_step}")


def configure_filesystems() -> None:
    """Hands STEMFORGE_BEAM_ARGS to Beam's filesystems, as the feature job does."""
    from pipelines.runners import pipeline_options

    pipeline_options([])


def net_and_config(params: Train, features: FeatureSet) -> tuple[unet.Net, TrainConfig]:
    """Splits the train section into the net's shape and the run's configuration."""
    values = params.model_dump()
    shape: dict[str, Any] = {name: values.pop(name) for name in NET_FIELDS & set(values)}
    return unet.Net(bins=features.bins, **shape), TrainConfig(**values)


def fit(
    trainer: Trainer, features: FeatureSet, stem: str, config: TrainConfig, net: unet.Net
) -> None:
    """Runs the training with a progress bar and TensorBoard files in runs/<stem>/."""
    framing = features.framing
    seconds_a_step = (
        config.batch_size * net.frames * framing.step_samples / features.info["sample_rate_hz"]
    )
    writer = tf.summary.create_file_writer(str(RUNS / stem))
    with progress(config.steps, label=f"train@{stem}", unit="step") as bar, writer.as_default():

        def report(state: State, loss: float) -> None:
            if bar.n < state.step - 1:  # goes on from a checkpoint
                bar.initial = bar.n = state.step - 1
            bar.update()
            rate = (bar.n - bar.initial) / max(bar.format_dict["elapsed"], 1e-6)
            bar.set_postfix_str(
                f"loss {loss:.4f}, best validation {state.best_loss:.4f}, "
                f"{rate * seconds_a_step:.0f} audio-s/s",
                refresh=False,
            )
            if state.history and state.history[-1]["step"] == state.step:
                row = state.history[-1]
                tf.summary.scalar("loss", row["loss"], step=state.step)
                if row["valid_loss"] is not None:
                    tf.summary.scalar("valid_loss", row["valid_loss"], step=state.step)

        trainer.fit(features, progress=report)


if __name__ == "__main__":
    raise SystemExit(run_main(main))
