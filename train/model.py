"""A trained model: its nets with their weights; saving and loading it."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from stemforge.errors import UserError
from stemforge.train.model_files import (
    CARD,
    MODEL_VERSION,
    WEIGHTS,
    Interface,
    read_card,
    read_weights,
)
from stemforge.train.nets.protocol import Net


def weights_of(model: keras.Model) -> dict[str, NDArray[np.float32]]:
    """All weights by name: "encoder_0/kernel", or "vocals_encoder_0/kernel" of several nets."""
    return {weight.path: np.asarray(weight) for weight in model.weights}


def set_weights(model: keras.Model, values: Mapping[str, NDArray[np.float32]]) -> None:
    """Assigns weights by name.

    Raises:
        UserError: the names are not exactly the net's.
    """
    paths = [weight.path for weight in model.weights]
    if set(paths) != set(values):
        odd = sorted(set(paths) ^ set(values))
        raise UserError(f"weights do not fit the net: only one of the two has {odd[0]}")
    for weight in model.weights:
        if weight.shape != values[weight.path].shape:
            raise UserError(f"weights do not fit the net: {weight.path} has another shape")
        weight.assign(values[weight.path])


@dataclass(frozen=True)
class Model:
    """Trained nets, and the STFT and rate of their input.

    Attributes:
        stems: what they estimate: one stem, or all of a joint model.
        net: their kind and shape.
        frame_length_samples: of the STFT.
        frame_step_samples: of the STFT.
        sample_rate_hz: of the audio.
        provenance: how they were trained: parameters, hash of the features, step, losses.
        keras_model: the nets with their weights.
    """

    stems: tuple[str, ...]
    net: Net
    frame_length_samples: int
    frame_step_samples: int
    sample_rate_hz: int
    provenance: Mapping[str, Any]
    keras_model: keras.Model

    @property
    def interface(self) -> Interface:
        """The nets' inputs and outputs."""
        return Interface(
            stems=self.stems,
            frames=self.net.frames,
            bins=self.net.bins,
            frame_length_samples=self.frame_length_samples,
            frame_step_samples=self.frame_step_samples,
            sample_rate_hz=self.sample_rate_hz,
        )

    @property
    def name(self) -> str:
        """See model_files.model_name."""
        return self.interface.name

    def with_provenance(self, provenance: Mapping[str, Any]) -> "Model":
        """The same model with another provenance."""
        return dataclasses.replace(self, provenance=provenance)


def save_model(folder: Path, model: Model) -> None:
    """Writes weights.npz and model.json into an existing folder.

    The same model gives the same bytes: .npz members have a fixed date.
    """
    np.savez(folder / WEIGHTS, allow_pickle=False, **weights_of(model.keras_model))
    card: dict[str, Any] = {"version": MODEL_VERSION}
    card |= {
        field.name: getattr(model, field.name)
        for field in dataclasses.fields(model)
        if field.name != "keras_model"
    }
    card["net"] = model.net.fields()
    text = json.dumps(card, indent=2, sort_keys=True) + "\n"
    (folder / CARD).write_text(text, encoding="utf-8")


def load_model(folder: Path) -> Model:
    """Reads a model directory.

    Raises:
        UserError: it is not a model directory, it has another version, or its weights do not fit.
    """
    card = read_card(folder)
    net, stems = card.pop("net"), tuple(card.pop("stems"))
    keras_model = net.build(stems)
    set_weights(keras_model, read_weights(folder))
    return Model(stems=stems, net=net, keras_model=keras_model, **card)
