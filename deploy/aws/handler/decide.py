"""Decides about an advertisement whose image was uploaded: from the event in the queue to one row in the table of decisions.

It runs in AWS Lambda with nothing but boto3 beside it.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

LARGEST = 4_000_000
"""Bytes of an image: SageMaker's serverless endpoints take 4 MB in a request."""
REFUSALS = (400, 413, 415, 422)
"""What the service answers to an image that it will never take; everything else is tried again."""


class Upload(NamedTuple):
    """An image in the bucket."""

    bucket: str
    key: str
    version: str
    etag: str
    size: int

    @property
    def ad_id(self) -> str:
        """The advertisement's name: another image under the same key is another advertisement."""
        return f"{self.key}@{self.etag}"


class Clients(NamedTuple):
    """What the handler talks to, and where: S3, SageMaker and DynamoDB."""

    s3: Any
    sagemaker: Any
    dynamodb: Any
    endpoint: str
    table: str
    model_version: str


def handler(event: dict[str, Any], context: object) -> None:
    """Decide about each upload of a batch; an error returns the batch, which holds one message, to the queue."""
    for record in event["Records"]:
        print(json.dumps(decide(uploaded(record["body"]), clients())))


def uploaded(body: str) -> Upload:
    """Return what EventBridge says was uploaded.

    Raises:
        ValueError: it says something else; after some tries the message lies in the dead-letter queue.
    """
    try:
        told = json.loads(body)["detail"]
        item = told["object"]
        return Upload(told["bucket"]["name"], item["key"], item["version-id"], item["etag"], int(item["size"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the message is no upload event: {error!r} in {body[:500]}") from error


def decide(upload: Upload, to: Clients) -> dict[str, Any]:
    """Return the decision that stands about an upload; it is made once for each version of the model."""
    key = {"ad_id": {"S": upload.ad_id}, "model_version": {"S": to.model_version}}
    if known := to.dynamodb.get_item(TableName=to.table, Key=key, ConsistentRead=True).get("Item"):
        return _plain(known)
    if upload.size > LARGEST:
        answer = _unscored("too_many_bytes", f"{upload.size} bytes; allowed: {LARGEST}", to)
    else:
        image = to.s3.get_object(Bucket=upload.bucket, Key=upload.key, VersionId=upload.version)["Body"].read()
        answer = _answer(image, to)
    row = {
        "ad_id": upload.ad_id,
        "image": upload.key,
        "s3_version": upload.version,
        "decided_at": datetime.now(UTC).isoformat(),
        **answer,
    }
    key["model_version"] = {"S": row["model_version"]}  # the endpoint's, which may be a deployment ahead or behind
    try:
        to.dynamodb.put_item(TableName=to.table, Item=_stored(row), ConditionExpression="attribute_not_exists(ad_id)")
    except Exception as error:
        if _code(error) != "ConditionalCheckFailedException":
            raise
        return _plain(to.dynamodb.get_item(TableName=to.table, Key=key, ConsistentRead=True)["Item"])
    return row


def _answer(image: bytes, to: Clients) -> dict[str, Any]:
    """Return what the endpoint says of an image, or that it will never take it."""
    try:
        answer = to.sagemaker.invoke_endpoint(
            EndpointName=to.endpoint, ContentType="application/octet-stream", Accept="application/json", Body=image
        )
    except Exception as error:
        told = getattr(error, "response", {})
        if _code(error) != "ModelError" or told.get("OriginalStatusCode") not in REFUSALS:
            raise
        return _unscored("refused", str(told.get("OriginalMessage", ""))[:1000], to)
    found = json.loads(answer["Body"].read())
    names = ("decision", "score", "subtask", "variant", "model_version")
    return {name: found[name] for name in names if found.get(name) is not None}


def _unscored(reason: str, detail: str, to: Clients) -> dict[str, Any]:
    """Return the decision about an image that no model can judge: a person is to look at it."""
    return {"decision": "unscored", "reason": reason, "detail": detail, "model_version": to.model_version}


def _code(error: Exception) -> str:
    """Return the code of an error of AWS, the empty text for any other."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


def _stored(row: dict[str, Any]) -> dict[str, Any]:
    return {name: {"N": repr(value)} if isinstance(value, float) else {"S": value} for name, value in row.items()}


def _plain(item: dict[str, Any]) -> dict[str, Any]:
    return {name: float(value["N"]) if "N" in value else value["S"] for name, value in item.items()}


@cache
def clients() -> Clients:
    """Return the clients of this process, told by its environment."""
    import boto3
    from botocore.config import Config

    # One call, a little longer than the endpoint may take; the queue tries again.
    once = Config(read_timeout=int(os.environ["ENDPOINT_SECONDS"]) + 5, retries={"total_max_attempts": 1})
    return Clients(
        boto3.client("s3"),
        boto3.client("sagemaker-runtime", config=once),
        boto3.client("dynamodb"),
        os.environ["ENDPOINT"],
        os.environ["TABLE"],
        os.environ["MODEL_VERSION"],
    )
