"""How the pods of the inference chart run, roll out and are reached."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.integration.chart import (
    CHART,
    EVERYTHING,
    GUIDE,
    ONE_MODEL,
    Object,
    named,
    pod,
    render,
    server,
)

with_both_values = pytest.mark.parametrize("values", [GUIDE, EVERYTHING], ids=["guide", "all"])
DOCS: Object = {"docs": {"enabled": True}}


def pods(objects: list[Object]) -> list[Object]:
    return [o["spec"]["template"]["spec"] for o in objects if o["kind"] == "Deployment"]


def containers(objects: list[Object]) -> list[Object]:
    return [c for p in pods(objects) for c in (*p.get("initContainers", []), *p["containers"])]


def model(**values: object) -> Object:
    return {"models": {"m": values}}


def deployment(*values: Path | Object, name: str = "inference-m") -> Object:
    spec: Object = named(render(*values), "Deployment", name)["spec"]
    return spec


@with_both_values
def test_every_pod_passes_the_restricted_standard(values: Path) -> None:
    objects = render(values, DOCS)
    for spec in pods(objects):
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert all({"emptyDir", "configMap"} & set(volume) for volume in spec["volumes"])
    for container in containers(objects):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert set(context) == {
            "allowPrivilegeEscalation",
            "capabilities",
            "readOnlyRootFilesystem",
        }
        assert not any("hostPort" in port for port in container.get("ports", []))


def test_only_the_model_server_can_write_to_its_root_and_that_can_be_turned_off() -> None:
    for turned_off, writable in ((False, {"model-server"}), (True, set())):
        objects = render(ONE_MODEL, DOCS, {"readOnlyRootFilesystem": turned_off})
        security = {c["name"]: c["securityContext"] for c in containers(objects)}
        assert set(security) == {"model-downloader", "model-server", "docs"}
        read_write = {n for n, s in security.items() if not s["readOnlyRootFilesystem"]}
        assert read_write == writable


@with_both_values
def test_no_pod_has_a_kubernetes_token_or_variables_of_services(values: Path) -> None:
    objects = render(values, DOCS)
    for spec in pods(objects):
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
    (account,) = [o for o in objects if o["kind"] == "ServiceAccount"]
    assert account["automountServiceAccountToken"] is False


def test_the_bucket_is_read_by_the_downloader_alone() -> None:
    objects = render(ONE_MODEL, DOCS, {"s3": {"secretName": "aws"}})
    assert "AWS" not in str(server(objects))
    assert pod(objects, "inference-docs")["serviceAccountName"] == "default"
    template = named(objects, "Deployment", "inference-m")["spec"]["template"]
    skipped = template["metadata"]["annotations"]["eks.amazonaws.com/skip-containers"]
    assert skipped == "model-server"


def test_the_guides_security_context_is_completed() -> None:
    context = pod(render(GUIDE), "inference-point")["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (10003,) * 3


def test_a_security_context_without_ids_is_possible_where_the_cluster_assigns_them() -> None:
    ids = {"podSecurityContext": dict.fromkeys(["runAsUser", "runAsGroup", "fsGroup"])}
    assert set(pod(render(ONE_MODEL, ids), "inference-m")["securityContext"]) == {
        "runAsNonRoot",
        "seccompProfile",
    }


def test_the_server_can_write_where_it_must_and_not_to_its_weights() -> None:
    objects = render(ONE_MODEL)
    volumes = {
        volume["name"]: volume["emptyDir"] for volume in pod(objects, "inference-m")["volumes"]
    }
    mounts = {
        m["mountPath"]: (volumes[m["name"]], m.get("readOnly", False))
        for m in server(objects)["volumeMounts"]
    }
    assert mounts == {
        "/models": ({}, True),
        "/tmp": ({}, False),
        "/dev/shm": ({"medium": "Memory", "sizeLimit": "16Gi"}, False),
    }


def test_an_update_fits_a_node_whose_gpus_are_all_taken() -> None:
    assert deployment(ONE_MODEL)["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
    }


def test_the_strategy_can_be_chosen() -> None:
    recreate = {"strategy": {"type": "Recreate"}}
    assert deployment(ONE_MODEL, recreate)["strategy"] == {"type": "Recreate"}
    surge = {"strategy": {"rollingUpdate": {"maxSurge": "50%", "maxUnavailable": 0}}}
    rolling = deployment(ONE_MODEL, surge)["strategy"]["rollingUpdate"]
    assert rolling == {"maxSurge": "50%", "maxUnavailable": 0}


@pytest.mark.parametrize("timeout", [1, 601, 3600, 86400])
def test_the_server_has_its_time_to_start_and_the_rollout_waits_for_it(timeout: int) -> None:
    spec = deployment(ONE_MODEL, model(startupTimeoutSeconds=timeout))
    probe = spec["template"]["spec"]["containers"][0]["startupProbe"]
    assert timeout <= probe["failureThreshold"] * probe["periodSeconds"] < timeout + 5
    assert spec["progressDeadlineSeconds"] > timeout


def test_probes_ask_what_needs_no_key() -> None:
    container = server(render(GUIDE), "inference-point")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": "http"}


def test_a_pod_that_stops_serves_until_the_load_balancer_knows() -> None:
    spec = deployment(ONE_MODEL)["template"]["spec"]
    stop = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert stop == ["sleep", "15"]
    assert spec["terminationGracePeriodSeconds"] == 120
    assert "lifecycle" not in server(render(ONE_MODEL, {"preStopSleepSeconds": 0}))


def test_gpus_and_disk_are_asked_for_and_other_resources_kept() -> None:
    assert server(render(EVERYTHING), "llm-big")["resources"] == {
        "limits": {"memory": "64Gi", "nvidia.com/gpu": 8},
        "requests": {
            "cpu": 2,
            "memory": "64Gi",
            "nvidia.com/gpu": 8,
            "ephemeral-storage": "450000000123",
        },
    }


def test_replicas_can_be_none() -> None:
    assert deployment(ONE_MODEL)["replicas"] == 1
    assert deployment(ONE_MODEL, model(replicas=0))["replicas"] == 0


def test_gpu_nodes_are_tolerated_by_models_and_not_by_the_documentation() -> None:
    objects = render(ONE_MODEL, DOCS)
    gpu_taint = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert pod(objects, "inference-m")["tolerations"] == [gpu_taint]
    assert "tolerations" not in pod(objects, "inference-docs")


def test_a_models_own_scheduling_replaces_the_charts() -> None:
    objects = render(EVERYTHING)
    big, other = pod(objects, "llm-big"), pod(objects, "llm-1")
    assert big["nodeSelector"] == {"disk": "fast"}
    assert "tolerations" not in big
    assert set(big["affinity"]) == {"nodeAffinity"}
    assert other["nodeSelector"] == {"pool": "gpu"}
    assert other["tolerations"][0]["key"] == "gpu"
    assert "affinity" not in other


@with_both_values
def test_every_service_selects_the_pods_of_one_deployment(values: Path) -> None:
    objects = render(values, DOCS)
    deployments = {o["metadata"]["name"]: o["spec"] for o in objects if o["kind"] == "Deployment"}
    for service in (o for o in objects if o["kind"] == "Service"):
        selector = service["spec"]["selector"].items()
        labels = {n: d["template"]["metadata"]["labels"] for n, d in deployments.items()}
        name = service["metadata"]["name"]
        assert [n for n, have in labels.items() if selector <= have.items()] == [name]
        assert deployments[name]["selector"]["matchLabels"].items() == selector
        port = service["spec"]["ports"][0]
        ports = deployments[name]["template"]["spec"]["containers"][0]["ports"]
        assert [(p["name"], p["containerPort"]) for p in ports] == [
            (port["targetPort"], port["port"])
        ]


def test_a_newer_chart_alone_restarts_no_pod(tmp_path: Path) -> None:
    newer = shutil.copytree(CHART, tmp_path / "inference")
    chart_yaml = newer / "Chart.yaml"
    chart_yaml.write_text(re.sub(r"0\.1\.0", "2026.11.0+build.7", chart_yaml.read_text()))
    old, new = render(EVERYTHING), render(EVERYTHING, chart=newer)
    assert [o["spec"] for o in old if "spec" in o] == [o["spec"] for o in new if "spec" in o]
    labels = named(new, "Deployment", "llm-big")["metadata"]["labels"]
    assert labels["app.kubernetes.io/version"] == "2026.11.0_build.7"
    assert labels["helm.sh/chart"] == "inference-2026.11.0_build.7"


@with_both_values
def test_of_a_model_nothing_but_v1_is_routed(values: Path) -> None:
    for ingress in (o for o in render(values) if o["kind"] == "Ingress"):
        (rule,) = ingress["spec"]["rules"]
        (path,) = rule["http"]["paths"]
        if not ingress["metadata"]["name"].endswith("-docs"):
            assert (path["path"], path["pathType"]) == ("/v1", "Prefix")
        service = {"name": ingress["metadata"]["name"], "port": {"name": "http"}}
        assert path["backend"] == {"service": service}


def test_without_ingress_nothing_is_routed() -> None:
    hosts = {"docs": {"enabled": True, "ingressHost": "docs.example.com"}}
    objects = render(ONE_MODEL, model(ingressHost="m.example.com"), hosts)
    assert not [o for o in objects if o["kind"] == "Ingress"]


def test_the_documentation_is_off_by_default() -> None:
    assert "docs" not in {o["metadata"]["name"].split("-")[-1] for o in render(GUIDE)}


def test_the_documentation_joins_the_load_balancer_with_a_health_check_of_its_own() -> None:
    docs = {"docs": {"enabled": True, "ingressHost": "docs.example.com"}}
    objects = render(GUIDE, docs)
    ingress = named(objects, "Ingress", "inference-docs")
    models = named(objects, "Ingress", "inference-point")["metadata"]["annotations"]
    own = {"alb.ingress.kubernetes.io/healthcheck-path": "/"}
    assert ingress["metadata"]["annotations"] == models | own
    assert ingress["spec"]["rules"][0]["host"] == "docs.example.com"
    assert named(objects, "Service", "inference-docs")["spec"]["ports"][0]["port"] == 8080


def test_a_network_policy_is_made_only_when_asked_for() -> None:
    assert not [o for o in render(GUIDE, DOCS) if o["kind"] == "NetworkPolicy"]
    objects = render(EVERYTHING)
    models, docs = (named(objects, "NetworkPolicy", n)["spec"] for n in ("llm", "llm-docs"))
    (way_in,), (way_out,) = models["ingress"], models["egress"]
    assert way_in["from"] == [{"ipBlock": {"cidr": "10.0.0.0/16"}}]
    assert [port["port"] for port in way_out["ports"]] == [53, 53, 443, 8333]
    assert docs["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in docs


def notes(tmp_path: Path, *values: Path | Object) -> str:
    """Render the notes, which ``helm template`` does not print, as a template of a copy."""
    copy = shutil.copytree(CHART, tmp_path / "chart", dirs_exist_ok=True)
    (copy / "templates" / "NOTES.txt").replace(copy / "NOTES.txt")
    wrapper = (
        'kind: Notes\nmetadata: {name: x}\ntext: {{ tpl (.Files.Get "NOTES.txt") . | toJson }}'
    )
    (copy / "templates" / "notes.yaml").write_text(wrapper)
    text: str = named(render(*values, chart=copy), "Notes", "x")["text"]
    return text


def test_the_notes_say_where_the_models_are_and_how_to_ask(tmp_path: Path) -> None:
    text = notes(tmp_path, EVERYTHING)
    assert "Release demo-2026.11.0" in text
    assert "https://big.example.com/v1" in text
    assert "https://docs.example.com/" in text
    assert "kubectl logs -f -n models deploy/llm-1 -c model-downloader" in text
    assert "kubectl get secret -n models keys" in text
    assert '{{ index .data "api-key" | base64decode }}' in text
    assert "WARNING" not in text
    assert "http://inference-m.models.svc:8000/v1" in notes(tmp_path, ONE_MODEL)


def test_the_notes_warn_of_a_public_model_without_a_key(tmp_path: Path) -> None:
    warning = "internet-facing and the models ask for no API key"
    without_key = {"authentication": {"secretName": ""}}
    scheme = {"ingress": {"annotations": {"alb.ingress.kubernetes.io/scheme": "internal"}}}
    assert warning not in notes(tmp_path, GUIDE)
    assert warning in notes(tmp_path, GUIDE, without_key)
    assert warning not in notes(tmp_path, GUIDE, without_key, scheme)


def test_the_notes_name_placeholders_that_were_left(tmp_path: Path) -> None:
    assert "placeholders left in the values: <account-id>, <aws-region>" in notes(tmp_path, GUIDE)
