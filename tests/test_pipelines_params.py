import re
import subprocess
from pathlib import Path
from typing import get_args

import pytest
from ruamel.yaml import YAML

from stemforge.errors import UserError
from stemforge.pipelines.console import run_main
from stemforge.pipelines.params import Params, check_checkout, read_params
from stemforge.pipelines.train_section import Train
from stemforge.train.nets.unet import UNet
from stemforge.train.presets import PresetName, describe_preset, preset_values
from stemforge.train.spleeter.configuration import spleeter_preset
from tests.conftest import ROOT

TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")


def test_the_committed_file_is_valid() -> None:
    params = read_params(ROOT / "params.yaml")
    assert params.train.learning_rate == 1e-3  # the starter preset's
    assert params.corpus.stems == ["vocals", "drums", "bass", "other"]


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        (r"  steps:", "  stpes:", "train.steps: missing; train.stpes: unknown key"),
        ("width: null", "width: -1", "train.net.width=-1: must be 1 to 4096"),
        ("width: null", "width: '8'", "train.net.width='8': must be of type int"),
        (r"norm: null", "norm: btach", "train.net.norm='btach': must be one of affine, batch"),
        (r"bins: \d+", "bins: 1000", r"features.bins=1000: must be a positive multiple of 64"),
        (
            r"  frames: null",
            "  frames: 100",
            r"train.net.frames=100: must be a positive multiple of 64",
        ),
        (
            r"frames: \[512, 128\]",
            "frames: [512, 100]",
            r"export.frames=100: must be a positive multiple",
        ),
        (r"kind: null", "kind: gan", r"train.net.kind=gan: must be one of blstm, tfc_tdf, unet, "),
        (r"    width: null", "    widht: 3", "train.net.widht: unknown key"),
        (r"    width: null", "    widht: null", "train.net.widht: unknown key"),
        (
            r"    width: null",
            "    layers: 3",
            "train.net.layers=3: the net of the preset is of kind unet, which has no such field: "
            "set it to null, or net.kind=unet_lstm or unet_vae",
        ),
        (
            r"kind: null.*\n    frames: null",
            "kind: blstm\n    frames: 256",
            "train.net.kind=blstm: the preset has values for net.kind=unet only: set activation, "
            "units too: docs/training.md, Which net$",
        ),
        (
            r"kind: null",
            "kind: tfc_tdf",
            "train.net.kind=tfc_tdf: the preset has values for net.kind=unet only: set "
            "preset=stemforge, or bottleneck, depth, fold, frames, growth, ",
        ),
        (
            r"    width:",
            "    bins: 64\n    width:",
            "train.net.bins: unknown key: set features.bins",
        ),
        (r"preset: starter[\s\S]*?  # The run", "preset: null\n  # The run", "train.net: missing"),
        (
            r"models: \[.*\]",
            "models: [drums, vocals]",
            r"each once and in their order: \[vocals, drums, bass, other\]",
        ),
        (r"head: null", "head: softmax", r"so they must be one model: \[joint\]"),
        (
            r"stem_weights: null",
            "stem_weights: {vocals: 2.0}",
            r"they weight the stems of a joint model",
        ),
        (r"frame_step_samples: 1024", "frame_step_samples: 1000", "frame_step_samples=1000: must"),
        (r"stems: .*", "stems: [vocals]", "corpus.stems="),
        (
            r"stems: .*",
            "stems: [vocals, vocals]",
            "corpus.stems: vocals: two stems have this name: rename one",
        ),
        (
            r"stems: .*",
            "stems: [lead vocals, bass]",
            "corpus.stems: 'lead vocals': not a valid name",
        ),
        (r"stems: .*", "stems: [mixture, bass]", "corpus.stems: mixture: has another meaning, as"),
        (r"stems: .*", "stems: [joint, bass]", "corpus.stems: joint: has another meaning, as"),
        (r"depth: null", "depth: 1000000000000", "train.net.depth=1000000000000: must be 2 to 16"),
        (r"seed: 7", "seed: !!timestamp 2020-13-45", "not YAML: "),
        (r"seed: 7", "seed: " + "[" * 50_000, "nested too deeply"),
        (r"test_csv: null", "test_csv: a.csv", "train_csv=null, but"),
        (r"export:[\s\S]*", "", "export: missing"),
        (r"export:", "exprot:", "exprot: unknown key"),
        (r"version: 0.1.0", "version: 'one'", "release.version='one': String should match"),
        (r"kind: null", "kind: [unet]", r"train.net.kind=\['unet'\]: must be one of"),
        (r"seed: 7", "seed: [", "not YAML"),
        (
            "min_improvement: 0.0",
            "min_improvement: 0.01",
            "min_improvement=0.01 with patience=null",
        ),
        ("min_improvement: 0.0", "min_improvement: -1.0", "train.min_improvement=-1.0: "),
        (
            "select_by: valid_loss",
            "select_by: valid_sdr",
            "select_by=valid_sdr with sdr_songs=null",
        ),
        ("select_by: valid_loss", "select_by: sdr", "train.select_by='sdr': Input should be"),
        ("sdr_songs: null", "sdr_songs: 0", "train.sdr_songs=0: Input should be greater than 0"),
        ("accumulate_steps: 1", "accumulate_steps: 0", "train.accumulate_steps=0: Input should be"),
        (
            "learning_rates: null",
            "learning_rates: {'*lstm*': 0.0}",
            r"train.learning_rates.\*lstm\*=0.0: Input should be greater than 0",
        ),
        ("learning_rates: null", "learning_rates: {}", "train.learning_rates={}: "),
        ("stem_weights: null", "stem_weights: {}", "train.stem_weights={}: "),
        ("clip_norm: null", "clip_norm: .inf", "train.clip_norm=inf: Input should be a finite"),
        ("min_improvement: 0.0", "min_improvement: .nan", "train.min_improvement=nan: "),
        (r"silence_db: \S+", "silence_db: -.inf", "features.validity.silence_db=-inf: "),
        (
            r"seed: 1\n  log",
            "seed: 4294967296\n  log",
            "train.seed=4294967296: Input should be less than 4294967296",
        ),
        (
            "frame_length_samples: 4096",
            "frame_length_samples: 4095",
            "features: frame_length_samples=4095: must be even",
        ),
        (
            "cosine_end: null",
            "cosine_end: 0.1",
            "cosine_end=0.1 with schedule=constant: set it for schedule=cosine, which needs it, "
            "else to none",
        ),
        ("loss: null", "loss: none", "train.loss=none: must be one of l1, "),
        ("sdr_songs: null", "sdr_songs: none", "train.sdr_songs='none': Input should be a valid"),
    ],
)
def test_every_mistake_is_one_line_and_exit_code_2(
    in_tmp: Path,
    capsys: pytest.CaptureFixture[str],
    pattern: str,
    replacement: str,
    message: str,
) -> None:
    changed = re.sub(pattern, replacement, TEXT, count=1)
    assert changed != TEXT
    Path("params.yaml").write_text(changed, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_params()
    assert run_main(read_params) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("stemforge: error: params.yaml: ")
    assert printed.count("\n") == 1


def test_a_wrong_preset_is_the_only_mistake_that_is_named(in_tmp: Path) -> None:
    for preset, message in (
        (
            "spleter",
            "train.preset='spleter': Input should be 'starter', 'spleeter' or 'stemforge'",
        ),
        (
            "null",
            "train.net.kind=None: must be one of blstm, tfc_tdf, unet, unet_lstm, unet_vae; "
            "train.sampling=None: Input should be 'windows' or 'songs'; train.input=None: Input "
            "should be 'features' or 'waveforms'; train.loss=None: must be a name, or names with "
            "weights: {l1: 1.0, mask: 0.1}; train.learning_rate=None: Input should be a valid "
            "number; train.schedule=None: Input should be 'constant', 'cosine' or 'plateau'; "
            "train.warmup_steps=None: Input should be a valid integer; set these, or "
            "train.preset, which sets them",
        ),
    ):
        changed = TEXT.replace("  preset: starter", f"  preset: {preset}")
        Path("params.yaml").write_text(changed, encoding="utf-8")
        with pytest.raises(UserError) as caught:
            read_params()
        assert str(caught.value) == f"params.yaml: {message}"
    Path("params.yaml").write_text(TEXT.replace("  steps: 300", "  steps: null"), encoding="utf-8")
    with pytest.raises(UserError, match=r"train\.steps=None: [^;]*$"):  # no preset sets these
        read_params()


@pytest.mark.parametrize(
    ("models", "missing"),
    [("[vocals]", ""), ("[drums, other]", "vocals, bass"), ("[joint]", "")],
)
def test_models_of_some_stems_are_refused_but_one_alone(
    in_tmp: Path, models: str, missing: str
) -> None:
    changed = re.sub(r"models: \[.*\]", f"models: {models}", TEXT, count=1)
    Path("params.yaml").write_text(changed, encoding="utf-8")
    params = read_params()  # training any of them is fine
    if not missing:
        params.require_usable_models()
        return
    message = f"no model of {missing}, and masks divide .*: add them to models, name one stem alone"
    with pytest.raises(UserError, match=message):
        params.require_usable_models()


@pytest.mark.parametrize(
    ("value", "weights"),
    [
        ("weighted_l1", {"weighted_l1": 1.0}),
        ("{l1: 1, mask: 0.1}", {"l1": 1.0, "mask": 0.1}),
        ("l7", "train.loss=l7: must be one of l1, weighted_l1, l2, "),
        ("{l1: 1.0, 3: 1.0}", "train.loss=3: must be one of l1, "),
        ("{}", r"train.loss={}: must be a name, or names with weights: {l1: 1.0, mask: 0.1}"),
        ("[l1]", r"train.loss=\['l1'\]: must be a name, or names"),
        ("{l1: 0}", "train.loss.l1=0: must be a positive, finite number"),
        ("{l1: .inf}", "train.loss.l1=inf: must be a positive, finite number"),
        ("{l1: .nan}", "train.loss.l1=nan: must be a positive, finite number"),
        ("{l1: true}", "train.loss.l1=True: must be a positive, finite number"),
        ("kl", "train.loss=kl: compares no stem with its estimate: add a loss, such as l1"),
        (
            "{l1: 1.0, kl: 0.1}",
            "train.loss=kl: train.net.kind=unet adds no KL term: use train.net.kind=unet_vae, or "
            "leave kl out",
        ),
        (
            "{l1: 1.0, si_sdr: 0.1}",
            "train.loss=si_sdr needs sound, and train.input=features has none: set "
            "train.input=waveforms$",
        ),
    ],
)
def test_loss_is_a_name_or_weights(
    in_tmp: Path, value: str, weights: str | dict[str, float]
) -> None:
    Path("params.yaml").write_text(TEXT.replace("loss: null ", f"loss: {value} "), encoding="utf-8")
    if isinstance(weights, dict):
        assert read_params().train.loss == weights
    else:
        with pytest.raises(UserError, match=f"^params.yaml: {weights}"):
            read_params()


def test_a_nets_own_loss_can_have_a_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    values = YAML(typ="safe").load(TEXT)
    values["train"]["loss"] = {"l1": 1.0, "kl": 0.1}
    monkeypatch.setattr(UNet, "own_losses", frozenset({"kl"}))
    assert Params.model_validate(values).train.loss == {"l1": 1.0, "kl": 0.1}


@pytest.mark.parametrize(
    ("loss", "frames", "samples"),
    # All 128 frames that overlap cover (frames - 127) * 32 samples.
    [("si_sdr", 64, 0), ("si_sdr", 128, None), ("multi_resolution_stft", 128, 32),
     ("multi_resolution_stft", 192, None)],
)  # fmt: skip
def test_windows_are_long_enough_for_losses_of_sound(
    loss: str, frames: int, samples: int | None
) -> None:
    values = YAML(typ="safe").load(TEXT)
    values["features"] |= {"frame_length_samples": 4096, "frame_step_samples": 32}
    values["train"] |= {"loss": loss, "input": "waveforms"}
    values["train"]["net"]["frames"] = frames
    if samples is None:
        assert Params.model_validate(values).train.loss == {loss: 1.0}
        return
    least = {"si_sdr": 32, "multi_resolution_stft": 2048}[loss]
    message = f"train.net.frames={frames}: train.loss={loss} .*: at least {least}, not {samples}: "
    with pytest.raises(ValueError, match=message):
        Params.model_validate(values)


@pytest.mark.parametrize(
    ("encoding", "message"),
    [("utf-8-sig", None), ("utf-16", None), ("cp1252", "line 1: not UTF-8 text")],
)
def test_encodings(in_tmp: Path, encoding: str, message: str | None) -> None:
    Path("params.yaml").write_text("# ö\n" + TEXT, encoding=encoding)
    if message is None:
        assert read_params() == read_params(ROOT / "params.yaml")
    else:
        with pytest.raises(UserError, match=message):
            read_params()


def test_missing_file(in_tmp: Path) -> None:
    with pytest.raises(UserError, match=r"params.yaml: no such file"):
        read_params()


def preset_of(train: dict[str, object]) -> Train:
    """params.yaml with another train section."""
    values = YAML(typ="safe").load(TEXT)
    return Params.model_validate({**values, "train": train}).train


def test_a_preset_fills_what_is_null_or_missing_and_a_value_wins() -> None:
    section = YAML(typ="safe").load(TEXT)["train"] | {"preset": "spleeter"}
    whole = preset_of(section)
    # Spleeter's musdb_config.json: T 512, ELU, Adam at 1e-4, batches of 4.
    assert (whole.net.frames, whole.learning_rate, whole.sampling) == (512, 1e-4, "songs")
    assert describe_preset(whole.model_dump(), whole.net) == [
        "preset spleeter: U-Net, 6 blocks, 16 filters in the first, elu and elu, norm affine, "
        "dropout 0.0, linear input, sigmoid masks, "
        "sampling=songs, input=features, augmentation=None, loss={'l1': 1.0}, batch_size=4, "
        "accumulate_steps=1, "
        "stem_weights=None, learning_rates=None, weight_decay=None, clip_norm=None, "
        "ema_momentum=None, precision=float32, schedule=constant, warmup_steps=0, "
        "cosine_end=None, plateau_factor=None, patience=None, min_improvement=0.0, "
        "max_plateaus=None, select_by=valid_loss, learning_rate=0.0001"
    ]
    short = {key: v for key, v in section.items() if key not in spleeter_preset("adam")}
    assert preset_of({**short, "net": None}) == whole
    assert preset_of({key: v for key, v in short.items() if key != "net"}) == whole
    own = preset_of({**section, "net": {**section["net"], "frames": 256}, "batch_size": 2})
    assert (own.net.frames, own.net.fields()["width"], own.batch_size) == (256, 16, 2)
    assert describe_preset(own.model_dump(), own.net)[1] == (
        "params.yaml differs from preset spleeter: net.frames=256, not 512; batch_size=2, not 4"
    )
    with pytest.raises(ValueError, match=r"train\.net\.width=None: must be of type int"):
        preset_of({**section, "preset": None, "net": {**section["net"], "kind": "unet"}})


def train_of(**values: object) -> Train:
    """params.yaml with other values in its train section; net__x are those of its net."""
    section = YAML(typ="safe").load(TEXT)["train"]
    for name, value in values.items():
        place = section["net"] if name.startswith("net__") else section
        place[name.removeprefix("net__")] = value
    return preset_of(section)


def test_one_key_gives_a_whole_recipe() -> None:
    """As `dvc exp run -S train.preset=stemforge`: what the best row of the study sets."""
    study = YAML(typ="safe").load((ROOT / "benchmarks" / "study.yaml").read_text("utf-8"))
    best = next(row["train"] for row in study["rows"] if row["row"] == "all together")
    same = {key: study["base"][key] for key in ("batch_size", "sampling", "optimizer")}
    train = train_of(preset="stemforge")
    row = train_of(preset=None, **{**same, **best})
    assert train == row.model_copy(update={"preset": "stemforge"})
    (line,) = describe_preset(train.model_dump(), train.net)
    assert line.startswith("preset stemforge: TFC-TDF U-Net, 3 levels, 24 channels and 24 more")
    assert "loss={'l1': 1.0, 'si_sdr': 0.1}, learning_rate=0.002, schedule=cosine" in line


def test_params_yaml_as_it_is_is_the_starter_preset() -> None:
    fields = ("unet", 128, 1024, 8, 6, "batch", 0.0, "elu", "elu", "sigmoid", "linear")
    train = train_of()
    assert (*train.net.fields().values(),) == fields
    kept = (train.sampling, train.input, train.loss, train.learning_rate, train.schedule)
    assert kept == ("windows", "features", {"l1": 1.0}, 1e-3, "constant")
    assert (train.augmentation, train.warmup_steps, train.cosine_end) == (None, 0, None)


def test_none_switches_off_what_a_preset_has_on() -> None:
    off = train_of(preset="stemforge", augmentation="none", schedule="constant", cosine_end="none")
    assert (off.augmentation, off.cosine_end, off.warmup_steps) == (None, None, 30)
    assert describe_preset(off.model_dump(), off.net)[1] == (
        "params.yaml differs from preset stemforge: augmentation=None, not {'gain_db': [-6.0, "
        "6.0], 'swap_channels': 0.5, 'flip_polarity': 0.5, 'remix': 0.5}; schedule=constant, not "
        "cosine; cosine_end=None, not 0.01"
    )
    assert train_of(augmentation="none", clip_norm="none") == train_of()
    message = "cosine_end=0.01 with schedule=constant: .* else to none"
    with pytest.raises(ValueError, match=message):
        train_of(preset="stemforge", schedule="constant")
    message = "input=features has none: set train.input=waveforms or train.augmentation=none"
    with pytest.raises(ValueError, match=message):
        train_of(preset="stemforge", input="features", loss="l1")


def test_fields_of_another_kind_of_net_are_null() -> None:
    assert train_of(preset="stemforge", net__growth=32).net.fields()["growth"] == 32
    message = (
        r"^1 validation error for Params\ntrain\n  Value error, train.net.norm='batch': the net "
        "of the preset is of kind tfc_tdf, which has no such field: set it to null, or "
        "net.kind=unet "
    )
    with pytest.raises(ValueError, match=message):
        train_of(preset="stemforge", net__norm="batch")
    net = {"kind": "unet", "frames": 64, "width": 2, "depth": 2, "norm": "affine", "dropout": 0.1,
           "encoder_activation": "elu", "decoder_activation": "relu", "head": "sigmoid",
           "input_scale": "sqrt"}  # fmt: skip
    given = {f"net__{key}": value for key, value in net.items()}
    train = train_of(preset="stemforge", **given)
    assert train.net.fields() == {**net, "bins": 1024}
    assert (
        describe_preset(train.model_dump(), train.net)[1]
        == "params.yaml differs from preset stemforge: net.kind=unet, not tfc_tdf"
    )


def test_auralflows_configuration_is_one_of_ours() -> None:
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    block = page.partition("The whole of it")[2].partition("```yaml\n")[2].partition("```")[0]
    values = YAML(typ="safe").load(TEXT)
    values["models"] = ["vocals"]
    values["features"] |= {"frame_length_samples": 1024, "frame_step_samples": 256, "bins": 512}
    values["export"]["frames"] = [512]
    found = YAML(typ="safe").load(block)["train"]
    train = Params.model_validate({**values, "train": {**values["train"], **found}}).train
    assert (train.net.kind, train.net.bins, train.loss) == ("unet_lstm", 512, {"si_sdr": 1.0})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, None),
        ({"gain_db": [0.0, 0.0]}, None),
        ({"gain_db": [6, -6]}, r"train.augmentation: gain_db=\[6, -6\]: not a range: the first"),
        ({"gain_db": [3.0, 3.0]}, r"train.augmentation: gain_db=\[3, 3\]: not a range"),
        ({"gain_db": [0, 7000]}, r"gain_db=\[0, 7000\]: must be from -60 to 60 dB"),
        ({"gain_db": [-6.0]}, "train.augmentation.gain_db="),
        ({"gain_db": [float("-inf"), 0.0]}, r"gain_db=\[-inf, 0\]: must be two finite numbers"),
        ({"remix": 1.5}, "train.augmentation: remix=1.5: must be a probability, from 0 to 1"),
        ({"flip_polarity": -0.1}, "train.augmentation: flip_polarity=-0.1: must be a probability"),
        ({"pitch": 2}, "train.augmentation.pitch: unknown key"),
        (
            {"gain_db": [0, 0], "swap_channels": 0, "flip_polarity": 0, "remix": 0},
            "train.augmentation: changes nothing: give one of its keys a value, or set it to none",
        ),
    ],
)
def test_augmentation_is_checked(
    in_tmp: Path, changes: dict[str, object], message: str | None
) -> None:
    values = YAML(typ="safe").load(TEXT)
    some = {"gain_db": [-6, 6], "swap_channels": 0.5, "flip_polarity": 0.5, "remix": 0.5}
    values["train"] |= {"input": "waveforms", "augmentation": {**some, **changes}}
    YAML(typ="safe").dump(values, Path("params.yaml"))
    if message is None:
        assert read_params().train.augmentation is not None
        return
    with pytest.raises(UserError, match=message):
        read_params()


@pytest.mark.parametrize("preset", get_args(PresetName))
def test_params_yaml_tells_each_presets_value_beside_the_key(preset: PresetName) -> None:
    """In comments: "starter 128, spleeter 512, stemforge 256" and so on."""
    section = TEXT[TEXT.index("\n  net:\n") : TEXT.index("\nmonitor:")]
    told, text = {}, ""
    for line in section.splitlines():
        text += line.partition("#")[2]  # of the key's own line, and of those above it
        if key := re.match(r" +(\w+):", line):
            if value := re.search(rf"\b{preset} (\{{.*?\}}|[^\s,;:]+)", text):
                told[key[1]] = YAML(typ="safe").load(value[1])
            text = ""
    found = preset_values(preset, optimizer="adam")
    shared = preset_values("starter", optimizer="adam").keys() - {"net"}
    values = found["net"] | {key: found[key] for key in shared}
    if found["loss"] == dict.fromkeys(found["loss"], 1.0):
        values["loss"] = next(iter(found["loss"]))  # as a name
    assert told == {key: "none" if value is None else value for key, value in values.items()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, None),
        ({"per_song": 3, "tempo": [1.1, 1.1], "pitch_semitones": [0, 0]}, None),
        ({"per_song": -1}, "copies: per_song=-1: must be 0, which makes none, or more"),
        ({"tempo": [0, 1]}, r"copies: tempo=\[0, 1\]: must be from 0.75 to 1.33 times"),
        ({"tempo": [1.1, 0.9]}, r"copies: tempo=\[1.1, 0.9\]: not a range: the first number"),
        ({"tempo": [1.0, float("nan")]}, r"copies: tempo=\[1, nan\]: must be from"),
        ({"pitch_semitones": [2, -2]}, r"copies: pitch_semitones=\[2, -2\]: not a range"),
        ({"pitch_semitones": [-7, 0]}, r"pitch_semitones=\[-7, 0\]: must be from -6 to 6 semit"),
        ({"pitch_semitones": [1]}, "copies.pitch_semitones="),
        (
            {"pitch_semitones": [0, 0], "tempo": [1, 1]},
            "copies: .*would be the same as their songs",
        ),
    ],
)
def test_copies_are_checked(in_tmp: Path, changes: dict[str, object], message: str | None) -> None:
    values = YAML(typ="safe").load(TEXT)
    values["copies"] |= changes
    YAML(typ="safe").dump(values, Path("params.yaml"))
    if message is None:
        assert read_params().copies.read().tempo[0] > 0
        return
    with pytest.raises(UserError, match=message):
        read_params()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("no repository", "not a git repository: run `git init`, and commit"),
        ("no commit", "the git repository has no commit: commit: a release names its commit"),
        ("another user's", "run `git config --global --add safe.directory {folder}`: a release"),
        ("no git", "git: not installed: a release names its commit: install git"),
    ],
)
def test_a_release_without_a_commit_is_refused_before_any_stage(
    in_tmp: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    state: str,
    message: str,
) -> None:
    Path("params.yaml").write_text(TEXT, encoding="utf-8")
    if state != "no repository":
        subprocess.run(["git", "init", "--quiet"], check=True)
    if state == "another user's":
        # git's own switch for its tests: each repository counts as another user's.
        monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    if state == "no git":
        monkeypatch.setenv("PATH", "")
    assert run_main(check_checkout) == 2
    line = capsys.readouterr().err
    assert message.format(folder=in_tmp) in line
    assert line.count("\n") == 1


def pages_settings() -> list[tuple[str, dict[str, dict[str, object]]]]:
    """What pages say to set in params.yaml: each YAML block with sections of it, and its page."""
    found = []
    for page in sorted((ROOT / "docs").glob("*.md")):
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            values = YAML(typ="safe").load(block)
            if values.keys() <= Params.model_fields.keys():
                found.append((page.name, values))
    return found


@pytest.mark.parametrize(("page", "values"), pages_settings())
def test_what_pages_say_to_set_is_valid(page: str, values: dict[str, dict[str, object]]) -> None:
    params = YAML(typ="safe").load(TEXT)
    for section, keys in values.items():
        assert isinstance(keys, dict), page
        params[section] |= keys
    Params.model_validate(params)


def test_musdb18_has_settings() -> None:
    assert "musdb18.md" in {page for page, _ in pages_settings()}
