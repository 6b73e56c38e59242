"""Checkpoints read without TensorFlow: against TensorFlow's own reader and writer."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from stemforge.errors import UserError
from stemforge.train.spleeter.bundle import FOOTER_BYTES, newest_checkpoint, read_bundle
from tests.conftest import ROOT
from tests.test_spleeter_checkpoints import OFFICIAL, needs_official

SMALL = ROOT / "tests" / "golden" / "spleeter-5stems"


def assert_equals_tensorflows(prefix: Path) -> None:
    reader = tf.train.load_checkpoint(str(prefix))
    found = read_bundle(prefix)
    assert set(found) == set(reader.get_variable_to_shape_map())
    for name, values in found.items():
        expected = reader.get_tensor(name)
        assert values.dtype == expected.dtype, name
        np.testing.assert_array_equal(values, expected, err_msg=name)


def test_a_checkpoint_of_spleeters_own_making() -> None:
    assert_equals_tensorflows(newest_checkpoint(SMALL))


@needs_official
def test_the_official_checkpoint() -> None:
    assert_equals_tensorflows(newest_checkpoint(OFFICIAL))


def write(folder: Path, values: dict[str, np.ndarray]) -> Path:
    """A checkpoint by TensorFlow's writer."""
    prefix = folder / "model.ckpt-7"
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=[*values],
        shape_and_slices=[""] * len(values),
        tensors=[tf.constant(value) for value in values.values()],
    )
    tf.compat.v1.train.update_checkpoint_state(str(folder), prefix.name)
    return prefix


def test_types_shapes_and_many_variables(tmp_path: Path, random: np.random.Generator) -> None:
    # Names that share no beginning: the table has a block for each 256 KiB of them.
    values = {random.bytes(60).hex(): random.normal(size=(n % 5, 1)) for n in range(3000)}
    values |= {
        "step": np.array(2**40, np.int64),
        "whole": random.integers(0, 9, (2, 1, 4), np.int32),
        "kernel": random.normal(size=(3, 3, 2, 5)).astype(np.float32),
    }
    folder = tmp_path / 'Müller, "Ähre"'  # which the list of checkpoints escapes
    folder.mkdir()
    prefix = write(folder, values)
    assert newest_checkpoint(folder) == prefix
    assert_equals_tensorflows(prefix)


def test_a_checkpoint_that_was_moved_is_found(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    write(tmp_path / "there", {"a": np.ones(3)})
    text = (tmp_path / "there" / "checkpoint").read_text()
    named = f'model_checkpoint_path: "{tmp_path}/there/model.ckpt-7"\n'
    (tmp_path / "there" / "checkpoint").write_text(named + text.split("\n", 1)[1])
    shutil.move(tmp_path / "there", tmp_path / "here")
    assert newest_checkpoint(tmp_path / "here") == tmp_path / "here" / "model.ckpt-7"


def test_damaged_bytes_are_seen(tmp_path: Path) -> None:
    """The checksums cover all but the footer, which is the last 48 bytes of the table."""
    for name in ("model.index", "model.data-00000-of-00001"):
        shutil.copy(SMALL / name, tmp_path)
    whole = read_bundle(tmp_path / "model")
    assert whole
    for name, step in (("model.index", 7), ("model.data-00000-of-00001", 99991)):
        data = (tmp_path / name).read_bytes()
        for place in range(0, len(data) - FOOTER_BYTES, step):
            changed = bytearray(data)
            changed[place] ^= 0x10
            (tmp_path / name).write_bytes(changed)
            with pytest.raises(UserError, match="not a readable checkpoint"):
                read_bundle(tmp_path / "model")
        (tmp_path / name).write_bytes(data[:-1])
        with pytest.raises(UserError, match="not a readable checkpoint"):
            read_bundle(tmp_path / "model")
        (tmp_path / name).write_bytes(data)
    os.remove(tmp_path / "model.data-00000-of-00001")
    with pytest.raises(UserError, match="No such file"):
        read_bundle(tmp_path / "model")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no checkpoint in it (a file named checkpoint)"),
        ("", "it names none"),
        ("model_checkpoint_path: model", "it names none"),
        ('model_checkpoint_path: "other"', "no checkpoint in it (other.index)"),
        ('model_checkpoint_path: "."', "no checkpoint in it (..index)"),
        (b"\xff\xfe\xff", "not readable"),
    ],
)
def test_a_folder_without_a_checkpoint(tmp_path: Path, text: str | bytes | None, said: str) -> None:
    if text is not None:
        data = text.encode() if isinstance(text, str) else text
        (tmp_path / "checkpoint").write_bytes(data)
    with pytest.raises(UserError) as caught:
        newest_checkpoint(tmp_path)
    assert said in str(caught.value)
    assert "give the folder that holds checkpoint, *.index and *.data-*" in str(caught.value)
