import json
from typing import Any

import pytest
import tensorflow as tf

from stemforge.errors import UserError
from stemforge.pipelines.running.strategies import make_cluster, read_tf_config

TF_CONFIG = {
    "cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]},
    "task": {"type": "worker", "index": 0},
}


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ("{", "JSONDecodeError"),
        ('{"cluster": {"worker": ["a:1"]}}', "KeyError: 'task'"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "IndexError"),
        (
            '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, '
            '"task": {"type": "worker", "index": 0}}',
            "jobs ps are not for this strategy",
        ),
    ],
)
def test_a_wrong_tf_config(config: str, problem: str) -> None:
    with pytest.raises(UserError, match=r"^TF_CONFIG: must be \{") as raised:
        read_tf_config(config)
    assert problem in str(raised.value)


@pytest.mark.parametrize(("gpus", "name"), [(0, "RING"), (2, "NCCL")])
def test_gpus_talk_by_nccl(gpus: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def start(communication_options: Any) -> None:
        given.append(communication_options)
        raise tf.errors.UnavailableError(None, None, "no other worker is there")

    monkeypatch.setenv("TF_CONFIG", json.dumps(TF_CONFIG))
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind] * gpus)
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", start)
    with pytest.raises(UserError, match="no other worker is there"):
        make_cluster("multi_worker")
    assert given[0].implementation.name == name  # TensorFlow's own word
