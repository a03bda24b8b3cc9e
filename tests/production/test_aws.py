"""Figure 3 on AWS: what the function does with an upload, and what the stack allows. Nothing of it talks to AWS."""

import importlib
import io
import json
import shutil
import sys
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image
from served import Served, write_model

from tutelage.production.decisions import DecisionLog
from tutelage.production.serving.__main__ import arguments

AWS = Path(__file__).parents[2] / "deploy/aws"


@pytest.fixture(scope="module")
def parts() -> dict[str, ModuleType]:
    """The files of deploy/aws that need no CDK."""
    folders = [str(AWS), str(AWS / "handler")]
    sys.path[:0] = folders
    try:
        return {name: importlib.import_module(name) for name in ("decide", "packing", "copy_decisions")}
    finally:
        sys.path[:] = [folder for folder in sys.path if folder not in folders]


class AwsError(Exception):
    def __init__(self, code: str, **more: Any) -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code}, **more}


class Cloud:
    """S3, DynamoDB, and an endpoint whose container is a real service."""

    def __init__(self, service: Served) -> None:
        self.service = service
        self.images: dict[tuple[str, str, str], bytes] = {}
        self.rows: dict[tuple[str, str], dict[str, Any]] = {}
        self.invoked = 0
        self.before_put: Any = None

    def get_object(self, *, Bucket: str, Key: str, VersionId: str) -> dict[str, Any]:
        if (Bucket, Key, VersionId) not in self.images:
            raise AwsError("AccessDenied")
        return {"Body": io.BytesIO(self.images[Bucket, Key, VersionId])}

    def invoke_endpoint(self, *, EndpointName: str, ContentType: str, Accept: str, Body: bytes) -> dict[str, Any]:
        assert (EndpointName, Accept) == ("an-endpoint", "application/json")
        self.invoked += 1
        status, answer, _ = self.service.ask("POST", "/invocations", Body, content_type=ContentType)
        if status != 200:
            raise AwsError("ModelError", OriginalStatusCode=status, OriginalMessage=json.dumps(answer))
        return {"Body": io.BytesIO(json.dumps(answer).encode())}

    def get_item(self, *, TableName: str, Key: dict[str, Any], ConsistentRead: bool) -> dict[str, Any]:
        assert ConsistentRead
        found = self.rows.get((Key["ad_id"]["S"], Key["model_version"]["S"]))
        return {} if found is None else {"Item": found}

    def put_item(self, *, TableName: str, Item: dict[str, Any], ConditionExpression: str) -> None:
        assert (TableName, ConditionExpression) == ("a-table", "attribute_not_exists(ad_id)")
        if self.before_put is not None:
            self.before_put()
        key = Item["ad_id"]["S"], Item["model_version"]["S"]
        if key in self.rows:
            raise AwsError("ConditionalCheckFailedException")
        self.rows[key] = Item


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("aws") / "model"
    write_model(folder)
    with Served(folder, "none", token="none") as running:
        yield running


@pytest.fixture
def cloud(service: Served) -> Cloud:
    return Cloud(service)


def png(brightness: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (brightness,) * 3).save(file, "PNG")
    return file.getvalue()


def event(key: str, version: str, etag: str, size: int) -> str:
    """As Amazon S3 tells EventBridge, and EventBridge the queue."""
    return json.dumps({
        "version": "0", "source": "aws.s3", "detail-type": "Object Created", "region": "eu-west-1",
        "detail": {
            "version": "0", "bucket": {"name": "uploads"}, "reason": "PutObject",
            "object": {"key": key, "size": size, "etag": etag, "version-id": version, "sequencer": "0061"},
        },
    })  # fmt: skip


def upload(cloud: Cloud, image: bytes, key: str = "ads/größe 1.png", version: str = "v1") -> str:
    cloud.images["uploads", key, version] = image
    return event(key, version, f"{hash(image):x}", len(image))


def decided(parts: dict[str, ModuleType], cloud: Cloud, body: str, version: str | None = None) -> dict[str, Any]:
    module = parts["decide"]
    known = version or cloud.service.ask("GET", "/v2/models")[1]["models"]["incumbent"]["version"]
    to = module.Clients(cloud, cloud, cloud, "an-endpoint", "a-table", known)
    return module.decide(module.uploaded(body), to)


def test_an_upload_is_scored_by_the_service_and_decided_once(parts, cloud):
    body = upload(cloud, png(250))
    first = decided(parts, cloud, body)
    assert first["decision"] == "acceptable"
    assert first["ad_id"].startswith("ads/größe 1.png@")
    assert (first["image"], first["variant"]) == ("ads/größe 1.png", "incumbent")
    assert decided(parts, cloud, body) == first
    assert (cloud.invoked, len(cloud.rows)) == (1, 1)
    another = decided(parts, cloud, upload(cloud, png(5), version="v2"))  # another image in the place of the first
    assert (another["decision"], len(cloud.rows)) == ("defective", 2)


def test_of_two_at_once_the_first_stands(parts, cloud):
    body = upload(cloud, png(250))
    stands: list[dict[str, Any]] = []

    def other() -> None:
        cloud.before_put = None
        stands.append(decided(parts, cloud, body))

    cloud.before_put = other
    assert decided(parts, cloud, body) == stands[0]
    assert (cloud.invoked, len(cloud.rows)) == (2, 1)


def test_a_decision_is_that_of_the_version_that_answered(parts, cloud):
    found = decided(parts, cloud, upload(cloud, png(250)), version="the-next")
    assert {version for _, version in cloud.rows} == {found["model_version"]} != {"the-next"}


def test_what_no_model_can_judge_is_kept_for_a_person(parts, cloud):
    refused = decided(parts, cloud, upload(cloud, b"<svg/>" * 10))
    assert (refused["decision"], refused["reason"]) == ("unscored", "refused")
    assert "JPEG" in refused["detail"]
    large = decided(parts, cloud, event("ads/large.png", "v1", "0", 4_000_001))
    assert (large["decision"], large["reason"], cloud.invoked) == ("unscored", "too_many_bytes", 1)


@pytest.mark.parametrize("status", [404, 408, 429, 500, 503])
def test_what_may_pass_is_left_to_the_queue(parts, cloud, monkeypatch, status):
    body = upload(cloud, png(250))

    def failing(**_: Any) -> None:
        raise AwsError("ModelError", OriginalStatusCode=status, OriginalMessage="{}")

    monkeypatch.setattr(cloud, "invoke_endpoint", failing)
    with pytest.raises(AwsError, match="ModelError"):
        decided(parts, cloud, body)
    assert cloud.rows == {}
    with pytest.raises(AwsError, match="AccessDenied"):
        decided(parts, cloud, event("ads/gone.png", "v1", "0", 10))


@pytest.mark.parametrize("body", ["", "{}", "[]", '{"detail": {"object": {"key": "ads/x"}}}', '{"detail": null}'])
def test_a_message_that_is_no_upload_ends_in_the_dead_letter_queue(parts, body):
    with pytest.raises(ValueError, match="the message is no upload event"):
        parts["decide"].uploaded(body)


def test_the_handler_writes_one_line_of_json_for_each_message(parts, cloud, monkeypatch, capsys):
    module = parts["decide"]
    monkeypatch.setattr(module, "clients", lambda: module.Clients(cloud, cloud, cloud, "an-endpoint", "a-table", "v"))
    module.handler({"Records": [{"body": upload(cloud, b"no image")}]}, None)
    assert json.loads(capsys.readouterr().out)["decision"] == "unscored"  # what the alarm's filter reads


def test_decisions_are_copied_into_a_log_once(parts, cloud, tmp_path):
    for brightness in (10, 240):
        decided(parts, cloud, upload(cloud, png(brightness), f"ads/{brightness}.png"))
    decided(parts, cloud, upload(cloud, b"no image", "ads/none.png"))
    with DecisionLog(tmp_path / "log.sqlite") as log:
        for _ in range(2):
            left_out: list[str] = []
            log.record_all(parts["copy_decisions"].decisions(cloud.rows.values(), left_out))
            assert len(left_out) == 1
            assert left_out[0].endswith(": refused")
        table = log.table().sort_values("ad_id")
    assert table["image"].tolist() == ["ads/10.png", "ads/240.png"]
    assert table["decision"].tolist() == ["defective", "acceptable"]
    kept = sorted(float(row["score"]["N"]) for row in cloud.rows.values() if "score" in row)
    assert sorted(table["score"]) == kept


def test_the_same_model_is_the_same_archive(parts, tmp_path):
    card = write_model(tmp_path / "model")
    (tmp_path / "model" / "notes.txt").write_text("not of the model")
    versions = [parts["packing"].packed(tmp_path / "model", tmp_path / f"{k}.tar.gz") for k in range(2)]
    assert versions == [card["version"]] * 2
    assert (tmp_path / "0.tar.gz").read_bytes() == (tmp_path / "1.tar.gz").read_bytes()
    with tarfile.open(tmp_path / "0.tar.gz") as archive:
        assert sorted(archive.getnames()) == sorted([*card["files"], "model.json"])
    (tmp_path / "model" / card["graph"]).write_bytes(b"damaged")
    with pytest.raises(ValueError, match="is damaged"):
        parts["packing"].packed(tmp_path / "model", tmp_path / "damaged.tar.gz")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The stack as ``cdk synth`` makes it."""
    if shutil.which("node") is None:
        pytest.skip("node, in which the CDK runs, is not installed")
    from aws_cdk import App
    from aws_cdk.assertions import Template

    folder = tmp_path_factory.mktemp("stack")
    write_model(folder / "model")
    sys.path.insert(0, str(AWS))
    try:
        made = importlib.import_module("app").made
    finally:
        sys.path.remove(str(AWS))
    context = {"model": str(folder / "model"), "email": "a@example.com", "concurrency": "20"}
    return Template.from_stack(made(App(context=context, outdir=str(folder / "cdk.out"))))


def resources(template: Any, kind: str) -> list[dict[str, Any]]:
    return [each["Properties"] for each in template.find_resources(kind).values()]


def statements(template: Any) -> list[dict[str, Any]]:
    return [
        each for policy in resources(template, "AWS::IAM::Policy") for each in policy["PolicyDocument"]["Statement"]
    ]


def verbs(statement: dict[str, Any]) -> list[str]:
    given = statement["Action"]
    return [given] if isinstance(given, str) else given


def test_the_stack_is_figure_3(template):
    for kind in ("S3::Bucket", "Events::Rule", "Lambda::Function", "SageMaker::Endpoint", "DynamoDB::Table"):
        template.resource_count_is(f"AWS::{kind}", 1)
    template.resource_count_is("AWS::SQS::Queue", 2)
    template.has_resource_properties(
        "AWS::Events::Rule",
        {
            "EventPattern": {
                "source": ["aws.s3"],
                "detail-type": ["Object Created"],
                "detail": {"object": {"key": [{"prefix": "ads/"}]}},
            }
        },
    )
    template.has_resource_properties(
        "AWS::SageMaker::EndpointConfig",
        {"ProductionVariants": [{"ServerlessConfig": {"MaxConcurrency": 20, "MemorySizeInMB": 3072}}]},
    )
    template.has_resource_properties(
        "AWS::Lambda::EventSourceMapping", {"BatchSize": 1, "ScalingConfig": {"MaximumConcurrency": 20}}
    )


def test_no_bucket_is_public_and_everything_is_encrypted(template):
    template.has_resource_properties(
        "AWS::S3::Bucket",
        {
            "PublicAccessBlockConfiguration": dict.fromkeys(
                ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True
            ),
            "VersioningConfiguration": {"Status": "Enabled"},
            "BucketEncryption": {},
        },
    )
    assert all(queue["SqsManagedSseEnabled"] for queue in resources(template, "AWS::SQS::Queue"))
    assert all(topic["KmsMasterKeyId"] for topic in resources(template, "AWS::SNS::Topic"))
    assert all(table["SSESpecification"]["SSEEnabled"] for table in resources(template, "AWS::DynamoDB::Table"))
    unencrypted = {"Bool": {"aws:SecureTransport": "false"}}
    counts = {"S3::BucketPolicy": 1, "SQS::QueuePolicy": 2, "SNS::TopicPolicy": 1}
    for kind, count in counts.items():
        policies = resources(template, f"AWS::{kind}")
        assert len(policies) == count
        for policy in policies:
            denied = [each for each in policy["PolicyDocument"]["Statement"] if each["Effect"] == "Deny"]
            assert [each["Condition"] for each in denied] == [unencrypted]
    for kept in ("AWS::S3::Bucket", "AWS::DynamoDB::Table"):  # images and decisions outlive the stack
        assert {each["DeletionPolicy"] for each in template.find_resources(kept).values()} == {"Retain"}


def test_nobody_may_do_more_than_he_must(template):
    assert all("ManagedPolicyArns" not in role for role in resources(template, "AWS::IAM::Role"))
    anywhere = {str(each["Action"]) for each in statements(template) if each["Resource"] == "*"}
    assert anywhere == {"ecr:GetAuthorizationToken", "cloudwatch:PutMetricData"}  # which know no resources
    assert not [verb for each in statements(template) for verb in verbs(each) if "*" in verb]
    function = next(each for each in resources(template, "AWS::IAM::Policy") if "FunctionRole" in each["PolicyName"])
    allowed = {verb for each in function["PolicyDocument"]["Statement"] for verb in verbs(each)}
    assert {verb for verb in allowed if not verb.startswith(("sqs:", "logs:"))} == {
        "dynamodb:GetItem", "dynamodb:PutItem", "s3:GetObjectVersion", "sagemaker:InvokeEndpoint",
    }  # fmt: skip
    assert not allowed & {"sqs:SendMessage", "sqs:PurgeQueue"}


def test_times_agree_between_endpoint_function_and_queue(template, parts):
    function = next(each for each in resources(template, "AWS::Lambda::Function"))
    seconds = int(function["Environment"]["Variables"]["ENDPOINT_SECONDS"])
    assert seconds + 5 < function["Timeout"]  # the client's patience ends before the function does
    queue = next(each for each in resources(template, "AWS::SQS::Queue") if "RedrivePolicy" in each)
    dead = next(each for each in resources(template, "AWS::SQS::Queue") if "RedrivePolicy" not in each)
    assert queue["VisibilityTimeout"] >= 6 * function["Timeout"]
    assert queue["RedrivePolicy"]["maxReceiveCount"] == 5
    assert 5 * queue["VisibilityTimeout"] < queue["MessageRetentionPeriod"] < dead["MessageRetentionPeriod"]
    assert function["Handler"] == "decide.handler"
    told = set(function["Environment"]["Variables"])
    assert told == {"ENDPOINT", "ENDPOINT_SECONDS", "TABLE", "MODEL_VERSION"}


def test_each_alarm_reaches_somebody(template):
    alarms = resources(template, "AWS::CloudWatch::Alarm")
    assert {each["MetricName"] for each in alarms} == {
        "ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage", "Errors", "Invocation5XXErrors",
        "ModelLatency", "Unscored",
    }  # fmt: skip
    assert all(each["AlarmActions"] and each["AlarmDescription"] for each in alarms)
    template.has_resource_properties("AWS::SNS::Subscription", {"Protocol": "email", "Endpoint": "a@example.com"})
    unscored = next(each for each in alarms if each["MetricName"] == "Unscored")
    template.has_resource_properties(
        "AWS::Logs::MetricFilter",
        {
            "FilterPattern": '{ $.decision = "unscored" }',
            "MetricTransformations": [{"MetricNamespace": unscored["Namespace"], "MetricName": "Unscored"}],
        },
    )


def test_the_container_is_told_what_it_reads(template):
    container = resources(template, "AWS::SageMaker::Model")[0]["PrimaryContainer"]
    told = arguments({"TUTELAGE_HOST": "0.0.0.0", **container["Environment"]})
    assert (str(told["model"]), told["token"], told["decisions"], told["port"]) == (
        "/opt/ml/model",
        "none",
        "none",
        8080,
    )
