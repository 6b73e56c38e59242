"""The interface of a net: all that other code uses. This module does not import TensorFlow."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from stemforge.errors import UserError
from stemforge.text import show
from stemforge.train.config import InferencePrecision, LossName, Precision

if TYPE_CHECKING:
    import keras

InputScale = Literal["linear", "sqrt", "log"]  # of what a net sees of the magnitudes
Library = Literal["onednn", "xnnpack"]  # which library runs the operations: TensorFlow's, LiteRT's
NORM_EPSILON = 1e-3  # Keras' own
MOST = 2**31 - 1  # the largest size of a tensor's axis that LiteRT knows
Weights = Mapping[str, NDArray[np.float32]]  # by name, as a model directory holds them


@dataclass(frozen=True)
class Lowered:
    """A trained net as plain operations of a graph.

    Attributes:
        values: its weights: NumPy arrays in nested dictionaries and lists.
        run: from the mixture, float32 [batch, frames, bins, 2], magnitudes, and `values` as
            tensors, to a list of the stems' magnitudes, float32 of the same shape. Models that
            may share a compiled graph return the same function.
    """

    values: Any
    run: Callable[[Any, Any], list[Any]]


@dataclass(frozen=True)
class Net:
    """A kind of net and its fields: `train.net` in params.yaml, `net` in model.json.

    A new net is a subclass in a module of train.nets and a line in its table. `bins` is the one
    field that params.yaml does not have there: it is features.bins.

    Attributes:
        kind: its name in the table.
        paper: the paper that it is from, for the model card.
        training_only: fields that change neither weights nor estimates, such as dropout.
        own_losses: names of losses that it adds itself, such as kl; `train.loss` may weight them.
        frames: frames in and out, T.
        bins: lowest bins of the STFT in and out, F.
    """

    kind: ClassVar[str]
    paper: ClassVar[str] = ""
    training_only: ClassVar[frozenset[str]] = frozenset()
    own_losses: ClassVar[frozenset[LossName]] = frozenset()
    frames: int
    bins: int

    def __post_init__(self) -> None:
        """Raises UserError where fields contradict each other."""
        self.check()

    def fields(self) -> dict[str, Any]:
        """Kind and fields as JSON values."""
        return {"kind": self.kind, **dataclasses.asdict(self)}

    @property
    def multiple(self) -> int:
        """What frames and bins must be multiples of."""
        return 1

    @property
    def needs_joint(self) -> bool:
        """Whether the nets of all stems depend on each other, and so must be one model."""
        return False

    @property
    def fixed(self) -> Mapping[str, str]:
        """Of "frames" and "bins" those that a trained net is bound to, and the field that binds it.

        Such as {"bins": "norm=instance"}.
        """
        return {}

    def check(self) -> None:
        """Refuses wrong fields; the message starts with the field's name: "frames=100: ...".

        Raises:
            UserError: a field is out of its range, or fields contradict each other.
        """
        for name in ("frames", "bins"):
            value = getattr(self, name)
            if not 1 <= value <= MOST or value % self.multiple:
                raise UserError(
                    f"{name}={show(value)}: must be a positive multiple of {self.multiple}"
                )

    def check_ranges(self, *limits: tuple[str, int, int]) -> None:
        """Refuses fields that are not between the least and the most of theirs.

        Raises:
            UserError: one is not.
        """
        for name, least, most in limits:
            if not least <= (value := getattr(self, name)) <= most:
                raise UserError(f"{name}={show(value)}: must be {least} to {most}")

    def check_share(self, name: str) -> None:
        """Refuses a share, such as a rate of dropout, that is below 0, or 1 and more.

        Raises:
            UserError: it is.
        """
        if not 0.0 <= (value := getattr(self, name)) < 1.0:
            raise UserError(f"{name}={show(value)}: must be 0 or more and below 1")

    def resized(self, *, frames: int | None = None, bins: int | None = None) -> Self:
        """The net for inputs of another size, with the same weights.

        Args:
            frames: None: unchanged.
            bins: None: unchanged.

        Raises:
            UserError: the net does not support that size.
        """
        for name, size in (("frames", frames), ("bins", bins)):
            if name in self.fixed and size not in (None, own := getattr(self, name)):
                raise UserError(
                    f"{name}={show(size)}: net.{self.fixed[name]} has a fixed number of {name}: "
                    f"{own}"
                )
        return dataclasses.replace(
            self,
            frames=self.frames if frames is None else frames,
            bins=self.bins if bins is None else bins,
        )

    def build(
        self, stems: Sequence[str], *, seed: int = 0, precision: Precision = "float32"
    ) -> "keras.Model":
        """Builds the nets of one model with fresh weights.

        A net adds its own losses, such as a KL term, by Keras' `add_loss`.

        Args:
            stems: what they estimate.
            seed: of all random numbers in it.
            precision: in which it computes; weights, input and output are float32.

        Returns:
            A model from mixture magnitudes, float32 [batch, frames, bins, 2], to a dictionary
            of the stems' magnitudes, each of that shape.
        """
        raise NotImplementedError

    def lowered(
        self,
        weights: Weights,
        stems: Sequence[str],
        *,
        library: Library,
        precision: InferencePrecision = "float32",
    ) -> Lowered:
        """The trained nets as plain operations. This default runs the Keras model in a graph.

        Args:
            weights: of the nets, by name.
            stems: what they estimate.
            library: which one will run them; a net may choose the operations that it runs fastest.
            precision: "bfloat16" computes all but masks and estimates in bfloat16.

        Raises:
            UserError: the weights do not fit.
        """
        from stemforge.train.model import set_weights

        policy: Precision = "float32" if precision == "float32" else "mixed_bfloat16"
        model = self.build(stems, precision=policy)
        set_weights(model, weights)

        def run(mixture: Any, values: Any) -> list[Any]:
            parts = (model.trainable_variables, model.non_trainable_variables)
            given = [[values[v.path] for v in part] for part in parts]
            found, _ = model.stateless_call(*given, mixture, training=False)
            return [found[stem] for stem in stems]

        return Lowered({v.path: np.asarray(v) for v in model.variables}, run)

    def int8_layers(self) -> list[str]:
        """Names of the layers that tolerate int8; with none there is no int8_mixed file."""
        return []

    def describe(self) -> str:
        """The net in a phrase, such as "U-Net, 6 blocks, 16 filters in the first"."""
        raise NotImplementedError
