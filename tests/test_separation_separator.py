import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import tensorflow as tf

from stemforge.errors import UserError
from stemforge.eval.runtimes.tensorflow import TensorFlowNets
from stemforge.eval.separation.separator import Separator
from stemforge.train.model import Model, save_model, set_weights, weights_of
from stemforge.train.model_files import Interface
from stemforge.train.nets.unet import UNet
from tests.conftest import RATE_HZ, ROOT
from tests.golden import spleeter_rules as rules

NET = UNet(16, 64, 2, 3, "affine", 0.0, "elu", "elu", "sigmoid", "linear")


def model(stem: str, *, seed: int = 0, net: UNet = NET, step: int = 1024) -> Model:
    return Model((stem,), net, 4096, step, RATE_HZ, {}, net.build([stem], seed=seed))


def separator_of(models: list[Model], **options: Any) -> Separator:
    return Separator([nets(model) for model in models], **options)


def nets(model: Model, **options: Any) -> TensorFlowNets:
    weights = weights_of(model.keras_model)
    return TensorFlowNets(model.interface, model.net, weights, **options)


def tf_separate(waveform: np.ndarray, nets: list[Model]) -> list[np.ndarray]:
    """Spleeter's separation written out with tf.signal, the whole song at once."""
    samples = len(waveform)
    padded = np.concatenate([np.zeros((4096, 2), np.float32), waveform])
    spectrum = tf.signal.stft(padded.T, 4096, 1024, pad_end=True).numpy()  # [2, frames, bins]
    frames = spectrum.shape[1]
    whole = -(-frames // 16) * 16
    magnitude = np.zeros((whole, 64, 2), np.float32)
    magnitude[:frames] = np.moveaxis(np.abs(spectrum[..., :64]), 0, -1)
    parts = magnitude.reshape(-1, 16, 64, 2)
    estimates = [
        np.asarray(found).reshape(whole, 64, 2)[:frames]
        for net in nets
        for found in net.keras_model(parts).values()
    ]
    total = sum(e**2 for e in estimates) + 1e-10
    out = []
    for estimate in estimates:
        mask = (estimate**2 + 1e-10 / len(nets)) / total
        masked = np.zeros_like(spectrum)
        masked[..., :64] = np.moveaxis(mask, -1, 0) * spectrum[..., :64]
        wave = tf.signal.inverse_stft(
            masked,
            4096,
            1024,
            window_fn=lambda n, dtype: tf.signal.hann_window(n, dtype=dtype) * 2 / 3,
        ).numpy()
        out.append(wave.T[4096 : 4096 + samples])
    return out


@pytest.mark.parametrize("samples", [1, 4095, 12 * 1024, 12 * 1024 + 1, 50_000])
def test_equals_spleeters_definition(random: np.random.Generator, samples: int) -> None:
    waveform = random.uniform(-1, 1, (samples, 2)).astype(np.float32)
    models = [model("vocals", seed=1), model("drums", seed=2)]
    done_s: list[float] = []
    estimates = separator_of(models).separate(
        waveform, sample_rate_hz=RATE_HZ, progress=done_s.append
    )
    for ours, theirs in zip(estimates.values(), tf_separate(waveform, models), strict=True):
        assert ours.shape == (samples, 2)
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert done_s[-1] == samples / RATE_HZ


def test_estimates_add_up_to_the_mixtures_low_band() -> None:
    t = np.arange(RATE_HZ) / RATE_HZ
    low = np.sin(2 * np.pi * 300 * t)  # below bin 64, 689 Hz
    high = np.sin(2 * np.pi * 5000 * t)
    waveform = np.stack([low + high, low], 1).astype(np.float32) / np.float32(2)
    separator = separator_of([model("a", seed=1), model("b", seed=2), model("c", seed=3)])
    total = np.sum([*separator.separate(waveform, sample_rate_hz=RATE_HZ).values()], axis=0)
    middle = slice(8192, -8192)
    np.testing.assert_allclose(total[middle, 0], low[middle] / 2, atol=1e-3)
    np.testing.assert_allclose(total[middle, 1], low[middle] / 2, atol=1e-3)


def test_one_model_does_not_return_the_mixture(random: np.random.Generator) -> None:
    waveform = random.uniform(-1, 1, (40_000, 2)).astype(np.float32)
    only = model("vocals", seed=1)
    (estimate,) = separator_of([only]).separate(waveform, sample_rate_hz=RATE_HZ).values()
    mixture = sum(
        separator_of([only, model("x", seed=2)]).separate(waveform, sample_rate_hz=RATE_HZ).values()
    )
    # A fresh net's sigmoid lies around one half.
    ratio = np.sqrt(np.mean(estimate**2) / np.mean(mixture**2))
    assert 0.1 < ratio < 0.9


@pytest.mark.parametrize("rate_hz", [22050, 48000])
def test_other_rates_and_mono_come_back_as_they_went_in(rate_hz: int) -> None:
    t = np.arange(rate_hz) / rate_hz
    mono = np.sin(2 * np.pi * 300 * t).astype(np.float32)[:, None]
    separator = separator_of([model("a", seed=1), model("b", seed=2)])
    estimates = separator.separate(mono, sample_rate_hz=rate_hz)
    assert all(estimate.shape == mono.shape for estimate in estimates.values())
    total = np.sum([*estimates.values()], axis=0)
    peak_hz = np.abs(np.fft.rfft(total[:, 0])).argmax() * rate_hz / len(total)
    assert peak_hz == pytest.approx(300, abs=2)
    resampled = scipy.signal.resample(total[:, 0], 44100)
    assert np.std(resampled[5000:-5000]) == pytest.approx(np.std(mono), rel=0.02)


def test_bad_input() -> None:
    pair = [model("a"), model("b")]
    separator = separator_of(pair)
    with pytest.raises(UserError, match="no samples"):
        separator.separate(np.zeros((0, 2), np.float32), sample_rate_hz=RATE_HZ)
    with pytest.raises(UserError, match="2 samples are not finite"):
        separator.separate(np.full((1, 2), np.nan, np.float32), sample_rate_hz=RATE_HZ)
    with pytest.raises(UserError, match="3 channels"):
        separator.separate(np.zeros((9, 3), np.float32), sample_rate_hz=RATE_HZ)
    with pytest.raises(UserError, match="stem 'c': no model has it: name some of a, b"):
        separator_of(pair, stems=["c"])
    with pytest.raises(UserError, match="no stem to separate: name some of a, b"):
        separator_of(pair, stems=[])
    with pytest.raises(UserError, match="a ratio mask of a alone changes nothing"):
        separator_of(pair[:1], mask="ratio")
    with pytest.raises(UserError, match="exponent=0: must be positive"):
        separator_of(pair, exponent=0)
    with pytest.raises(UserError, match="no model"):
        separator_of([])
    with pytest.raises(UserError, match="two models have it"):
        separator_of([pair[0], pair[0]])
    with pytest.raises(UserError, match="frame_step_samples is 1024 for a, 512 for b"):
        separator_of([pair[0], model("b", step=512)])
    wide = UNet(16, 128, 2, 3, "affine", 0.0, "elu", "elu", "sigmoid", "linear")
    with pytest.raises(UserError, match="bins is 64 for a, 128 for b"):
        separator_of([pair[0], model("b", net=wide)])


def test_loading_from_folders(tmp_path: Path) -> None:
    for stem in ("a", "b"):
        (tmp_path / stem).mkdir()
        save_model(tmp_path / stem, model(stem))
    assert Separator.load([tmp_path / "a", tmp_path / "b"]).stems == ("a", "b")


def test_a_softmax_model_separates_all_its_stems(random: np.random.Generator) -> None:
    net = dataclasses.replace(NET, head="softmax")
    stems = ("a", "b", "c")
    joint = Model(stems, net, 4096, 1024, RATE_HZ, {}, net.build(stems, seed=1))
    for weight in joint.keras_model.weights:  # every stem starts from the same
        weight.assign(random.normal(0, 0.3, weight.shape))
    mixture = random.exponential(size=(16, 64, 2)).astype(np.float32)
    separator = separator_of([joint])
    magnitudes = nets(joint)(mixture)
    np.testing.assert_allclose(sum(magnitudes.values()), mixture, rtol=1e-5)
    assert np.abs(magnitudes["a"] - magnitudes["b"]).max() > 0.01
    waveform = random.uniform(-1, 1, (20_000, 2)).astype(np.float32)
    estimates = separator.separate(waveform, sample_rate_hz=RATE_HZ)
    assert tuple(estimates) == stems


def test_wanted_stems_are_those_of_all(random: np.random.Generator) -> None:
    waveform = random.uniform(-1, 1, (20_000, 2)).astype(np.float32)
    models = [model(stem, seed=number) for number, stem in enumerate("abc")]
    for mask in ("ratio", "direct"):
        whole = separator_of(models, mask=mask).separate(waveform, sample_rate_hz=RATE_HZ)
        some = separator_of(models, mask=mask, stems=["c", "a"])
        found = some.separate(waveform, sample_rate_hz=RATE_HZ)
        assert list(found) == ["c", "a"]
        for stem, estimate in found.items():
            np.testing.assert_array_equal(estimate, whole[stem])
    assert len(some._models) == 2  # a direct mask needs no other net


def test_a_direct_mask_is_the_nets_own(random: np.random.Generator) -> None:
    waveform = random.uniform(-1, 1, (20_000, 2)).astype(np.float32)
    models = [model("a", seed=1), model("b", seed=2)]
    both = separator_of(models, mask="direct").separate(waveform, sample_rate_hz=RATE_HZ)
    alone = separator_of(models[1:]).separate(waveform, sample_rate_hz=RATE_HZ)
    np.testing.assert_array_equal(both["b"], alone["b"])


class Ramp:
    """Nets whose estimate is the number of the frame in the part times the mixture."""

    interface = Interface(("vocals",), 16, 64, 4096, 1024, RATE_HZ)

    def __call__(self, mixture: np.ndarray) -> dict[str, np.ndarray]:
        share = np.arange(16, dtype=np.float32) / 16
        return {"vocals": share[:, None, None] * mixture}


def test_overlapping_parts_fade_over() -> None:
    """Two parts of 16 frames, 4 of them shared: weights 1/8, 3/8, 5/8, 7/8 of the second."""
    t = np.arange(24 * 1024) / RATE_HZ  # 28 frames
    tone = np.sin(2 * np.pi * 10 * RATE_HZ / 4096 * t).astype(np.float32)
    waveform = np.stack([tone, tone], 1)
    separator = Separator([Ramp()], overlap_frames=4)
    (found,) = separator.separate(waveform, sample_rate_hz=RATE_HZ).values()
    first, second = np.arange(16) / 16, np.arange(16) / 16
    fade = np.array([1, 3, 5, 7]) / 8
    shares = np.concatenate([first[:12], (1 - fade) * first[12:] + fade * second[:4], second[4:]])
    # By tf.signal, frame by frame, the low band alone.
    padded = np.concatenate([np.zeros(4096), tone, np.zeros(4096)]).astype(np.float32)
    spectrum = tf.signal.stft(padded, 4096, 1024).numpy()[:28]
    spectrum[:, 64:] = 0
    window = lambda n, dtype: tf.signal.hann_window(n, dtype=dtype) * 2 / 3  # noqa: E731
    masked = (shares[:, None] * spectrum).astype(np.complex64)
    wave = tf.signal.inverse_stft(masked, 4096, 1024, window_fn=window).numpy()
    np.testing.assert_allclose(found[:, 0], wave[4096 : 4096 + len(tone)], atol=1e-5)
    with pytest.raises(UserError, match="overlap_frames=9: must be 0 to 8"):
        Separator([Ramp()], overlap_frames=9)


@pytest.mark.parametrize(("rate_hz", "channels"), [(RATE_HZ, 2), (48000, 1)])
def test_residual_and_instrumental(
    random: np.random.Generator, rate_hz: int, channels: int
) -> None:
    waveform = random.uniform(-1, 1, (20_000, channels)).astype(np.float32)
    models = [model(stem, seed=n) for n, stem in enumerate(("vocals", "drums", "bass"))]
    plain = separator_of(models).separate(waveform, sample_rate_hz=rate_hz)
    found = separator_of(
        models, stems=["drums", "bass"], residual=True, instrumental=True
    ).separate(waveform, sample_rate_hz=rate_hz)
    assert list(found) == ["drums", "bass", "residual", "instrumental"]
    np.testing.assert_array_equal(found["bass"], plain["bass"])
    total = found["drums"] + found["bass"] + found["residual"]
    np.testing.assert_allclose(total, waveform, atol=1e-6)
    np.testing.assert_allclose(found["instrumental"] + plain["vocals"], waveform, atol=1e-6)
    with pytest.raises(UserError, match="instrumental: the models have no vocals"):
        separator_of(models[1:], instrumental=True)


def test_a_wiener_filter_excludes_masks() -> None:
    pair = [model("a"), model("b")]
    with pytest.raises(UserError, match="does not use mask, exponent or mask_extension"):
        separator_of(pair, mwf_window_frames=300, exponent=1.0)
    with pytest.raises(UserError, match="mwf_window_frames=0: must be 1 or more"):
        separator_of(pair, mwf_window_frames=0)
    with pytest.raises(UserError, match="a Wiener filter of a alone changes nothing"):
        separator_of(pair[:1], mwf_window_frames=300)


GOLDEN = ROOT / "tests" / "golden" / "spleeter-separation.npz"


@pytest.mark.parametrize(("samples", "extension", "exponent"), rules.SEPARATIONS)
def test_spleeters_own_graph_separates_the_same(
    samples: int, extension: str, exponent: int
) -> None:
    net = UNet(rules.SEPARATION_FRAMES, rules.SEPARATION_BINS, 1, 6, "affine", 0.0, "elu", "elu",
              "sigmoid", "linear")  # fmt: skip
    models = []
    for stem in rules.STEMS:
        built = model(stem, net=net)
        values = {
            weight.path: rules.initial(rules.official(weight.path, (stem,)), tuple(weight.shape))
            for weight in built.keras_model.weights
        }
        set_weights(built.keras_model, values)
        models.append(built)
    separator = separator_of(models, exponent=exponent, mask_extension=extension)
    found = separator.separate(rules.waveform(samples), sample_rate_hz=RATE_HZ)
    golden = np.load(GOLDEN)
    for stem, estimate in found.items():
        key = f"{samples} {extension} {exponent} {stem}"
        truth = golden[key].astype(np.float64)
        assert len(estimate) == golden[f"{key} length"]
        difference = estimate[::7] - truth
        assert np.abs(difference).max() < 5e-5
        if samples > 1:
            assert 10 * np.log10(np.sum(truth**2) / np.sum(difference**2)) > 60
            assert np.abs(found["vocals"] - found["accompaniment"]).max() > 0.01
