"""What runs stemforge on other people's clusters: the manifest."""

from typing import Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from stemforge.pipelines.commands.main import build_parser
from stemforge.pipelines.running.strategies import read_tf_config
from tests.conftest import ROOT

KUBERNETES = "1.30"


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    text = (ROOT / "deploy" / "kubernetes" / "train.yaml").read_text(encoding="utf-8")
    return {
        f"{item['kind']} {item['metadata']['name']}": item
        for item in YAML(typ="safe").load_all(text)
    }


def test_the_manifest_is_kubernetes(resources: dict[str, Any]) -> None:
    assert len(resources) == 4
    for item in resources.values():
        kubernetes_validate.validate(item, KUBERNETES, strict=True)


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
