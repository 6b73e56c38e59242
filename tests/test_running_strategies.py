import pytest

from stemforge.errors import UserError
from stemforge.pipelines.running.strategies import choose_communication, read_tf_config


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


@pytest.mark.parametrize(("gpus", "name"), [(0, "RING"), (1, "NCCL"), (8, "NCCL")])
def test_gpus_talk_by_nccl(gpus: int, name: str) -> None:
    assert choose_communication(gpus).name == name
