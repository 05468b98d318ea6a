"""The manifests of Kubernetes: each by its schema, and all of them with one another."""

from pathlib import Path
from typing import Annotated, Any, Literal

import kubernetes_validate
import pytest
from pydantic import BaseModel, ConfigDict, Field

from domain.jobs.queues import QUEUES
from tests.command_lines import CommandLine, objection
from tests.conftest import ROOT
from tests.manifests import FILES, FOLDER, Manifest, container, everything, of_kind, pod, read
from worker.settings import Settings
from worker.stack import STOP_SECONDS, Plan

VERSION = "1.37"
WORKLOADS = of_kind("Deployment", "Job")
OF_OTHERS = ("keda.sh/", "kustomize.config.k8s.io/")

workloads = pytest.mark.parametrize(
    "workload", WORKLOADS, ids=lambda manifest: manifest["metadata"]["name"]
)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Named(Strict):
    name: str


class Kustomization(Strict):
    """What a kustomization may say here."""

    apiVersion: Literal["kustomize.config.k8s.io/v1beta1"]  # noqa: N815  as all of these
    kind: Literal["Kustomization"]
    namespace: Literal["tallyman"]
    resources: list[str]
    images: list[dict[Literal["name", "newName", "newTag"], str]] = []


class SecretKey(Strict):
    parameter: Literal["host", "port", "dbName", "userName", "password", "sslmode"]
    name: str
    key: str


class SecretKeys(Strict):
    secretTargetRef: list[SecretKey]  # noqa: N815


class TriggerAuthentication(Strict):
    """KEDA's, as far as it is used here."""

    apiVersion: Literal["keda.sh/v1alpha1"]  # noqa: N815
    kind: Literal["TriggerAuthentication"]
    metadata: Named
    spec: SecretKeys


class Target(Strict):
    apiVersion: Literal["apps/v1"]  # noqa: N815
    kind: Literal["Deployment"]
    name: str


class Question(Strict):
    """Values of metadata are text, all of them."""

    query: str
    targetQueryValue: Annotated[str, Field(pattern=r"^[1-9]\d*$")]  # noqa: N815


class Trigger(Strict):
    type: Literal["postgresql"]
    authenticationRef: Named  # noqa: N815
    metadata: Question


class Scaling(Strict):
    scaleTargetRef: Target  # noqa: N815
    minReplicaCount: Annotated[int, Field(ge=0)]  # noqa: N815
    maxReplicaCount: Annotated[int, Field(ge=1)]  # noqa: N815
    pollingInterval: Annotated[int, Field(ge=1)]  # noqa: N815
    advanced: dict[Literal["horizontalPodAutoscalerConfig"], dict[Literal["behavior"], Any]]
    triggers: list[Trigger]


class ScaledObject(Strict):
    """KEDA's, as far as it is used here."""

    apiVersion: Literal["keda.sh/v1alpha1"]  # noqa: N815
    kind: Literal["ScaledObject"]
    metadata: Named
    spec: Scaling


def labels(manifest: Manifest) -> dict[str, str]:
    found: dict[str, str] = manifest["metadata"]["labels"]
    return found


def secrets(manifest: Manifest) -> list[str]:
    sources = container(manifest)["envFrom"]
    return [source["secretRef"]["name"] for source in sources if "secretRef" in source]


class TestSchemas:
    @pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(FOLDER)))
    def test_of_kubernetes_hold(self, file: Path) -> None:
        for manifest in read(file):
            if not manifest["apiVersion"].startswith(OF_OTHERS):
                kubernetes_validate.validate(dict(manifest), VERSION, strict=True)

    def test_of_others_hold(self) -> None:
        models = {
            model.__name__: model for model in (Kustomization, TriggerAuthentication, ScaledObject)
        }
        theirs = [each for _, each in everything() if each["apiVersion"].startswith(OF_OTHERS)]
        assert {each["kind"] for each in theirs} == set(models)
        for manifest in theirs:
            models[manifest["kind"]].model_validate(manifest)

    def test_of_what_keda_hands_on_hold(self) -> None:
        [scaled] = of_kind("ScaledObject")
        autoscaler = {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "tallyman-worker"},
            "spec": {
                "scaleTargetRef": scaled["spec"]["scaleTargetRef"],
                "minReplicas": scaled["spec"]["minReplicaCount"],
                "maxReplicas": scaled["spec"]["maxReplicaCount"],
                **scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"],
            },
        }
        kubernetes_validate.validate(autoscaler, VERSION, strict=True)


class TestKustomizations:
    def test_name_every_file_but_the_example(self) -> None:
        for file in FOLDER.rglob("kustomization.yaml"):
            [kustomization] = read(file)
            beside = {each.name for each in file.parent.glob("*.yaml")}
            known = {*kustomization["resources"], file.name}
            assert beside - known <= {"secrets.example.yaml"}
            assert known <= beside

    def test_set_the_image_of_every_pod(self) -> None:
        [kustomization] = read(FOLDER / "kustomization.yaml")
        assert {image["name"] for image in kustomization["images"]} == {
            container(workload)["image"] for workload in WORKLOADS
        }


class TestPods:
    @workloads
    def test_run_what_there_is(self, workload: Manifest) -> None:
        line = CommandLine(
            place=workload["metadata"]["name"], words=tuple(container(workload)["args"])
        )
        assert objection(line) is None

    @workloads
    def test_may_do_no_more_than_they_must(self, workload: Manifest) -> None:
        spec, main = pod(workload), container(workload)
        assert spec["securityContext"]["runAsNonRoot"]
        assert f"USER {spec['securityContext']['runAsUser']}:" in (ROOT / "Dockerfile").read_text()
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not spec["automountServiceAccountToken"]
        assert main["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert all(set(volume) <= {"name", "emptyDir"} for volume in spec["volumes"])
        assert main["resources"]["limits"]["memory"]
        assert main["resources"]["requests"]["cpu"]

    @workloads
    def test_are_found_by_their_labels(self, workload: Manifest) -> None:
        assert workload["spec"]["template"]["metadata"]["labels"] == labels(workload)
        assert labels(workload)["app.kubernetes.io/name"] == "tallyman"
        if workload["kind"] == "Deployment":
            assert workload["spec"]["selector"]["matchLabels"] == labels(workload)

    @workloads
    def test_read_settings_that_there_are(self, workload: Manifest) -> None:
        known = {f"TALLYMAN_{name.upper()}" for name in Settings.model_fields}
        examples = {each["metadata"]["name"]: each["stringData"] for each in of_kind("Secret")}
        given = {name for secret in secrets(workload) for name in examples[secret]}
        for config in of_kind("ConfigMap"):
            given |= set(config["data"])
        given |= {variable["name"] for variable in container(workload).get("env", [])}
        assert given <= known
        assert "TALLYMAN_DATABASE_URL" in given

    @pytest.mark.parametrize(
        "workload", of_kind("Deployment"), ids=lambda manifest: manifest["metadata"]["name"]
    )
    def test_are_asked_how_they_are(self, workload: Manifest) -> None:
        main = container(workload)
        ports = {port["name"]: port["containerPort"] for port in main["ports"]}
        [config] = of_kind("ConfigMap")
        flowers = {"http": Settings.model_fields["flower_port"].default}
        assert ports in (flowers, {"health": int(config["data"]["TALLYMAN_HEALTH_PORT"])})
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert main[name]["httpGet"]["port"] in ports

    def test_of_workers_have_time_and_memory_for_their_jobs(self) -> None:
        [config] = of_kind("ConfigMap")
        settings = Settings(
            concurrency=config["data"]["TALLYMAN_CONCURRENCY"],
            max_memory_per_child_mb=config["data"]["TALLYMAN_MAX_MEMORY_PER_CHILD_MB"],
        )
        [worker] = [each for each in WORKLOADS if each["metadata"]["name"] == "tallyman-worker"]
        plan = Plan(settings=settings, folder=ROOT)
        assert pod(worker)["terminationGracePeriodSeconds"] == plan.stop_seconds
        most = container(worker)["resources"]["limits"]["memory"]
        children = settings.concurrency * settings.max_memory_per_child_mb
        assert int(most.removesuffix("Mi")) >= children + 200

    def test_of_the_rest_have_time_to_stop(self) -> None:
        others = [each for each in of_kind("Deployment") if "worker" not in str(labels(each))]
        assert others
        assert {pod(each)["terminationGracePeriodSeconds"] for each in others} == {STOP_SECONDS}

    def test_tell_the_ledgers_metrics_once(self) -> None:
        [metrics] = [each for each in WORKLOADS if each["metadata"]["name"] == "tallyman-metrics"]
        assert metrics["spec"]["replicas"] == 1
        assert metrics["spec"]["strategy"]["type"] == "Recreate"


class TestWhatPicksPods:
    def test_picks_some(self) -> None:
        templates = [each["spec"]["template"]["metadata"]["labels"] for each in WORKLOADS]
        selectors = [
            each["spec"]["selector"]["matchLabels"] for each in of_kind("PodDisruptionBudget")
        ]
        selectors += [each["spec"]["selector"] for each in of_kind("Service")]
        selectors += [
            each["spec"]["podSelector"]["matchLabels"] for each in of_kind("NetworkPolicy")
        ]
        assert len(selectors) >= 5
        for selector in selectors:
            assert any(selector.items() <= template.items() for template in templates), selector

    def test_leaves_a_node_to_be_drained(self) -> None:
        assert all(each["spec"]["maxUnavailable"] == 1 for each in of_kind("PodDisruptionBudget"))

    def test_lets_nobody_in_but_who_is_named(self) -> None:
        policies = of_kind("NetworkPolicy")
        assert all("Ingress" in each["spec"]["policyTypes"] for each in policies)
        assert all(
            rule["from"] and rule["ports"] for each in policies for rule in each["spec"]["ingress"]
        )


class TestSecrets:
    def test_of_the_example_are_empty(self) -> None:
        for secret in of_kind("Secret"):
            assert set(secret["stringData"].values()) == {""}, secret["metadata"]["name"]

    def test_are_all_in_the_example(self) -> None:
        asked = {name for workload in WORKLOADS for name in secrets(workload)}
        examples = {each["metadata"]["name"]: each["stringData"] for each in of_kind("Secret")}
        assert asked <= set(examples)
        [authentication] = of_kind("TriggerAuthentication")
        for key in authentication["spec"]["secretTargetRef"]:
            assert key["key"] in examples[key["name"]]


class TestScaling:
    def test_is_of_the_workers(self) -> None:
        [scaled] = of_kind("ScaledObject")
        target = scaled["spec"]["scaleTargetRef"]["name"]
        [worker] = [each for each in of_kind("Deployment") if each["metadata"]["name"] == target]
        # What an apply would set is not KEDA's any more.
        assert "replicas" not in worker["spec"]

    def test_never_ends_the_last_worker(self) -> None:
        [scaled] = of_kind("ScaledObject")
        assert scaled["spec"]["minReplicaCount"] >= 1

    def test_asks_for_every_queue_as_far_as_it_matters(self) -> None:
        [scaled] = of_kind("ScaledObject")
        [trigger] = scaled["spec"]["triggers"]
        query = trigger["metadata"]["query"]
        assert f"ARRAY[{', '.join(map(repr, QUEUES))}]" in query
        most = scaled["spec"]["maxReplicaCount"] * int(trigger["metadata"]["targetQueryValue"])
        assert f"LIMIT {most}" in query
