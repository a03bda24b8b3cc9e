"""The container's files agree with the service: what is scraped, what is shown, what is installed."""

import json
import re
from pathlib import Path

import yaml
from prometheus_client import generate_latest

from tutelage.production.serving.__main__ import arguments
from tutelage.production.serving.telemetry import Telemetry

ROOT = Path(__file__).parents[2]


def test_every_metric_of_the_dashboard_is_one_of_the_services() -> None:
    telemetry = Telemetry()
    telemetry.requests.labels("/invocations", 200).inc()
    told = generate_latest(telemetry.registry).decode()
    families = set(re.findall(r"^# TYPE (\w+) ", told, re.MULTILINE))
    panels = json.loads((ROOT / "deploy/grafana/tutelage.json").read_text())["panels"]
    used = {
        name for panel in panels for target in panel["targets"] for name in re.findall(r"tutelage_\w+", target["expr"])
    }
    for name in used:
        assert {name, re.sub("_(bucket|sum|count)$", "", name)} & families, name
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in used}
    own = {name for name in families if not name.endswith("_created")}
    assert own - shown == set()  # nothing is measured that nobody looks at


def test_the_container_installs_what_the_service_imports_and_keeps_its_contract() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    locked = {
        line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "requirements.lock").read_text().split()
    }
    installed = re.search(r"requirements\.lock \\\n\s+(.*) \\", dockerfile)
    assert installed is not None
    names = {re.sub(r'"|\[.*\]', "", word) for word in installed[1].split()}
    assert names <= locked
    assert "torch" not in names
    assert re.search(r"^USER \d+$", dockerfile, re.MULTILINE)
    assert "HEALTHCHECK" in dockerfile
    assert "EXPOSE 8080" in dockerfile
    assert 'ENTRYPOINT ["python", "-m", "tutelage.production.serving"]' in dockerfile


def test_compose_tells_the_service_what_it_reads() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    service = compose["services"]["service"]
    told = arguments({"TUTELAGE_HOST": "0.0.0.0", **service["environment"]})
    assert told["decisions"].startswith("postgresql://tutelage:")
    assert str(told["model"]) == "/opt/ml/model" == service["volumes"][0].split(":")[-2]
    assert told["settings"].drain < int(service["stop_grace_period"].removesuffix("s"))
    for each in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in each.get("ports", ()))
        for volume in each.get("volumes", ()):
            source = volume.split(":")[0]
            assert not source.startswith("./") or (ROOT / source).is_file(), source
