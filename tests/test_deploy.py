"""What runs stemforge on other people's clusters: manifests and images."""

import copy
import re
import shutil
import subprocess
from typing import Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from stemforge.pipelines.commands.main import build_parser
from stemforge.pipelines.running.strategies import read_tf_config
from tests.conftest import ROOT

KUBERNETES = "1.30"


FOLDER = ROOT / "deploy" / "kubernetes"
GPU = "nvidia.com/gpu"
YAML_READER = YAML(typ="safe")


def named(text: str) -> dict[str, Any]:
    return {
        f"{item['kind']} {item['metadata']['name']}": item for item in YAML_READER.load_all(text)
    }


@pytest.fixture(scope="module")
def cpu() -> dict[str, Any]:
    return named((FOLDER / "cpu" / "train.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def gpu(cpu: dict[str, Any]) -> dict[str, Any]:
    """What `kubectl kustomize` makes of it: RFC 6902's `add` to every Job."""
    rules = YAML_READER.load((FOLDER / "gpu" / "kustomization.yaml").read_text(encoding="utf-8"))
    assert rules["resources"] == ["../cpu"]
    (patch,) = rules["patches"]
    resources = copy.deepcopy(cpu)
    for item in (item for item in resources.values() if item["kind"] == patch["target"]["kind"]):
        (operation,) = YAML_READER.load(patch["patch"])
        assert operation["op"] == "add"
        *path, key = (part.replace("~1", "/") for part in operation["path"].split("/")[1:])
        place: Any = item
        for part in path:
            place = place[int(part) if isinstance(place, list) else part]
        place[key] = operation["value"]
    return resources


@pytest.fixture(params=["cpu", "gpu"])
def resources(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def test_the_manifest_is_kubernetes(resources: dict[str, Any]) -> None:
    assert len(resources) == 4
    for item in resources.values():
        kubernetes_validate.validate(item, KUBERNETES, strict=True)


def test_gpus_are_all_that_differs(cpu: dict[str, Any], gpu: dict[str, Any]) -> None:
    assert GPU not in str(cpu)
    without = copy.deepcopy(gpu)
    for name in ("Job stemforge-chief", "Job stemforge-worker"):
        (container,) = without[name]["spec"]["template"]["spec"]["containers"]
        assert container["resources"]["limits"].pop(GPU) == "1"
    assert without == cpu


def test_kubectl_builds_the_same(cpu: dict[str, Any], gpu: dict[str, Any]) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl here")
    for folder, ours in (("cpu", cpu), ("gpu", gpu)):
        command = ["kubectl", "kustomize", str(FOLDER / folder)]
        built = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert named(built) == ours


def test_a_pod_ends_before_another_takes_its_place(resources: dict[str, Any]) -> None:
    """TensorFlow refuses a second task of the same name; checkpoints have one writer."""
    for name in ("Job stemforge-chief", "Job stemforge-worker"):
        assert resources[name]["spec"]["podReplacementPolicy"] == "Failed"


def test_the_pods_user_is_the_images_and_can_write(resources: dict[str, Any]) -> None:
    dockerfile = (ROOT / "deploy" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    (user,) = re.findall(r"^USER (\d+):\1$", dockerfile, re.MULTILINE)
    for name in ("Job stemforge-chief", "Job stemforge-worker"):
        pod = resources[name]["spec"]["template"]["spec"]
        context = {"runAsNonRoot": True, "runAsUser": int(user), "fsGroup": int(user)}
        assert pod["securityContext"] == context
        (container,) = pod["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert mounts[container["workingDir"]] == "work"


def test_the_manifests_pods_are_one_cluster(resources: dict[str, Any]) -> None:
    service = resources["Service stemforge-train"]
    seen, clusters = set(), []
    for name, kind in (("stemforge-chief", "chief"), ("stemforge-worker", "worker")):
        job = resources[f"Job {name}"]["spec"]
        pod = job["template"]["spec"]
        assert pod["subdomain"] == service["metadata"]["name"]
        assert job["template"]["metadata"]["labels"] == service["spec"]["selector"]
        (container,) = pod["containers"]
        assert container["command"] == ["stemforge", "train"]
        assert (
            build_parser().parse_args([*container["command"][1:], *container["args"]]).strategy
            == "multi_worker"
        )
        config = next(v["value"] for v in container["env"] if v["name"] == "TF_CONFIG")
        for index in range(job["completions"]):
            addresses, own = read_tf_config(config.replace("$(INDEX)", str(index)))
            clusters.append(addresses)
            assert own == f"{kind} {index}"
            seen.add(f"{name}-{index}.{pod['subdomain']}:2222")  # an Indexed Job's names
    assert all(set(addresses) == seen for addresses in clusters)
    assert len(seen) == 4
