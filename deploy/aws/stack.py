"""Figure 3 of the sub-task paper as one AWS stack: an upload, a queue, a serverless endpoint, and a table of decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aws_cdk import ArnFormat, CfnOutput, Duration, RemovalPolicy, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_ecr_assets as ecr_assets
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_event_sources as sources
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_s3_assets as s3_assets
from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_sqs as sqs
from constructs import Construct

ROOT = Path(__file__).parents[2]
PREFIX = "ads/"
"""Images are uploaded under this prefix; others start nothing."""
ENDPOINT_SECONDS = 60
"""What SageMaker gives a serverless endpoint for an answer."""
TRIES = 5


class Moderation(Stack):
    """An image that is uploaded under ``ads/`` is decided about once by each version of the model.

    Args:
        model: model.tar.gz, of the folder that `tutelage export` wrote.
        model_version: its version.
        email: who is told of alarms; nobody where it is None.
        memory: of the endpoint, in MB: 1024, 2048, ... 6144.
        concurrency: images that are scored at once, 2 to 200.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        model: Path,
        model_version: str,
        email: str | None = None,
        memory: int = 3072,
        concurrency: int = 10,
        **told: Any,
    ) -> None:
        super().__init__(scope, name, **told)
        self.uploads = self._uploads()
        self.dead, self.queue = self._queues()
        self.endpoint = self._endpoint(model, memory, concurrency)
        self.decisions = dynamodb.Table(
            self,
            "Decisions",
            partition_key=dynamodb.Attribute(name="ad_id", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="model_version", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            encryption=dynamodb.TableEncryption.AWS_MANAGED,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            stream=dynamodb.StreamViewType.NEW_IMAGE,  # for whoever acts on decisions
            removal_policy=RemovalPolicy.RETAIN,
        )
        self.log = logs.LogGroup(
            self, "Log", retention=logs.RetentionDays.THREE_MONTHS, removal_policy=RemovalPolicy.DESTROY
        )
        self.function = self._function(model_version, concurrency)
        self._alarms(email)
        for label, value in (
            ("Uploads", self.uploads.bucket_name),
            ("DecisionsTable", self.decisions.table_name),
            ("DecisionsStream", self.decisions.table_stream_arn),
            ("DeadLetters", self.dead.queue_url),
        ):
            CfnOutput(self, f"{label}Name", value=str(value))

    def _uploads(self) -> s3.Bucket:
        """A private bucket that tells EventBridge of uploads."""
        bucket = s3.Bucket(
            self,
            "Uploads",
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=True,
            versioned=True,  # what is scored is what was uploaded, whatever replaces it
            lifecycle_rules=[
                s3.LifecycleRule(
                    abort_incomplete_multipart_upload_after=Duration.days(1),
                    noncurrent_version_expiration=Duration.days(90),
                )
            ],
            removal_policy=RemovalPolicy.RETAIN,
        )
        raw = bucket.node.default_child
        assert isinstance(raw, s3.CfnBucket)
        raw.notification_configuration = s3.CfnBucket.NotificationConfigurationProperty(
            event_bridge_configuration=s3.CfnBucket.EventBridgeConfigurationProperty(event_bridge_enabled=True)
        )  # as a property: the higher-level call would add a function that may change every bucket's notifications
        return bucket

    def _queues(self) -> tuple[sqs.Queue, sqs.Queue]:
        """The queue of uploads, and the one for messages that failed again and again."""
        dead = sqs.Queue(
            self,
            "DeadLetterQueue",
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=Duration.days(14),
        )
        queue = sqs.Queue(
            self,
            "UploadQueue",
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=Duration.days(4),
            visibility_timeout=Duration.seconds(6 * self._function_seconds),  # as AWS advises for a function's queue
            dead_letter_queue=sqs.DeadLetterQueue(queue=dead, max_receive_count=TRIES),
        )
        events.Rule(
            self,
            "Uploaded",
            event_pattern=events.EventPattern(
                source=["aws.s3"],
                detail_type=["Object Created"],
                detail={"bucket": {"name": [self.uploads.bucket_name]}, "object": {"key": [{"prefix": PREFIX}]}},
            ),
            targets=[targets.SqsQueue(queue, dead_letter_queue=dead)],
        )
        return dead, queue

    @property
    def _function_seconds(self) -> int:
        return ENDPOINT_SECONDS + 30  # the endpoint's answer, S3, the table twice, and a cold start

    def _endpoint(self, model: Path, memory: int, concurrency: int) -> sagemaker.CfnEndpoint:
        """The container of this repository behind SageMaker's serverless inference."""
        image = ecr_assets.DockerImageAsset(
            self, "Image", directory=str(ROOT), platform=ecr_assets.Platform.LINUX_AMD64
        )
        packed = s3_assets.Asset(self, "Model", path=str(model))
        role = iam.Role(self, "EndpointRole", assumed_by=iam.ServicePrincipal("sagemaker.amazonaws.com"))
        image.repository.grant_pull(role)
        allowed: list[tuple[list[str], str, dict[str, Any]]] = [
            (["s3:GetObject"], packed.bucket.arn_for_objects(packed.s3_object_key), {}),
            (["s3:ListBucket"], packed.bucket.bucket_arn, {"StringLike": {"s3:prefix": f"{packed.s3_object_key}*"}}),
            (
                ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
                self.format_arn(
                    service="logs", resource="log-group", resource_name="/aws/sagemaker/Endpoints/*",
                    arn_format=ArnFormat.COLON_RESOURCE_NAME,
                ),
                {},
            ),
            (["cloudwatch:PutMetricData"], "*", {"StringLike": {"cloudwatch:namespace": "/aws/sagemaker/*"}}),
        ]  # fmt: skip
        for verbs, resource, conditions in allowed:
            role.add_to_policy(iam.PolicyStatement(actions=verbs, resources=[resource], conditions=conditions))
        made = sagemaker.CfnModel(
            self,
            "ServedModel",
            execution_role_arn=role.role_arn,
            primary_container=sagemaker.CfnModel.ContainerDefinitionProperty(
                image=image.image_uri,
                model_data_url=packed.s3_object_url,
                # IAM says who may ask, and the function logs decisions
                environment={"TUTELAGE_TOKEN": "none", "TUTELAGE_DECISIONS": "none"},
            ),
        )
        made.node.add_dependency(role)
        config = sagemaker.CfnEndpointConfig(
            self,
            "EndpointConfig",
            production_variants=[
                sagemaker.CfnEndpointConfig.ProductionVariantProperty(
                    variant_name="all",
                    model_name=made.attr_model_name,
                    initial_variant_weight=1,
                    serverless_config=sagemaker.CfnEndpointConfig.ServerlessConfigProperty(
                        memory_size_in_mb=memory, max_concurrency=concurrency
                    ),
                )
            ],
        )
        return sagemaker.CfnEndpoint(self, "Endpoint", endpoint_config_name=config.attr_endpoint_config_name)

    def _function(self, model_version: str, concurrency: int) -> lambda_.Function:
        """What takes an upload from the queue to its decision; it may do that and nothing else."""
        role = iam.Role(self, "FunctionRole", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        self.log.grant_write(role)
        uploads = self.uploads.arn_for_objects(f"{PREFIX}*")
        for verbs, resource in (
            (["s3:GetObjectVersion"], uploads),
            (["sagemaker:InvokeEndpoint"], self.endpoint.ref),
            (["dynamodb:GetItem", "dynamodb:PutItem"], self.decisions.table_arn),
        ):
            role.add_to_policy(iam.PolicyStatement(actions=verbs, resources=[resource]))
        function = lambda_.Function(
            self,
            "Decide",
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=lambda_.Architecture.ARM_64,
            code=lambda_.Code.from_asset(str(Path(__file__).parent / "handler"), exclude=["__pycache__"]),
            handler="decide.handler",
            memory_size=256,
            timeout=Duration.seconds(self._function_seconds),
            role=role,
            log_group=self.log,
            environment={
                "ENDPOINT": self.endpoint.attr_endpoint_name,
                "ENDPOINT_SECONDS": str(ENDPOINT_SECONDS),
                "TABLE": self.decisions.table_name,
                "MODEL_VERSION": model_version,
            },
        )
        function.node.add_dependency(self.endpoint)  # which answers with the new version by then
        function.add_event_source(sources.SqsEventSource(self.queue, batch_size=1, max_concurrency=concurrency))
        return function

    def _alarms(self, email: str | None) -> None:
        """What a person is told of, on a topic that is encrypted."""
        key = kms.Key(self, "AlarmKey", enable_key_rotation=True, removal_policy=RemovalPolicy.DESTROY)
        key.grant(iam.ServicePrincipal("cloudwatch.amazonaws.com"), "kms:Decrypt", "kms:GenerateDataKey*")
        topic = sns.Topic(self, "Alarms", master_key=key, enforce_ssl=True)
        if email is not None:
            topic.add_subscription(subscriptions.EmailSubscription(email))
        unscored = logs.MetricFilter(
            self,
            "Unscored",
            log_group=self.log,
            filter_pattern=logs.FilterPattern.string_value("$.decision", "=", "unscored"),
            metric_namespace=self.stack_name,
            metric_name="Unscored",
            default_value=0,
        )
        of_endpoint = {"EndpointName": self.endpoint.attr_endpoint_name, "VariantName": "all"}

        def endpoint_metric(name: str, statistic: str) -> cloudwatch.Metric:
            return cloudwatch.Metric(
                namespace="AWS/SageMaker", metric_name=name, dimensions_map=of_endpoint, statistic=statistic,
                period=Duration.minutes(5),
            )  # fmt: skip

        minutes = {"period": Duration.minutes(5)}
        watched: dict[str, tuple[cloudwatch.IMetric, float, str]] = {
            "DeadLetters": (
                self.dead.metric_approximate_number_of_messages_visible(statistic="Maximum", **minutes), 1,
                "An upload was not decided about after all tries: see the dead-letter queue, mend, and redrive it.",
            ),
            "OldUploads": (
                self.queue.metric_approximate_age_of_oldest_message(statistic="Maximum", **minutes), 900,
                "An upload waits for more than 15 minutes: the endpoint is down, or more concurrency is needed.",
            ),
            "FunctionErrors": (
                self.function.metric_errors(**minutes), 5, "The function failed five times in five minutes: see its log.",
            ),
            "EndpointErrors": (
                endpoint_metric("Invocation5XXErrors", "Sum"), 5, "The endpoint failed five times in five minutes.",
            ),
            "EndpointLatency": (
                endpoint_metric("ModelLatency", "p95"), 10_000_000,  # microseconds
                "One answer in twenty takes more than 10 seconds, of 60 that are allowed.",
            ),
            "Unscored": (
                unscored.metric(statistic="Sum", **minutes), 10,
                "Ten images in five minutes could not be judged: a format that is not taken, or an attack.",
            ),
        }  # fmt: skip
        for name, (metric, threshold, text) in watched.items():
            alarm = cloudwatch.Alarm(
                self,
                f"{name}Alarm",
                metric=metric,
                threshold=threshold,
                evaluation_periods=1,
                comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
                treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
                alarm_description=text,
            )
            alarm.add_alarm_action(actions.SnsAction(topic))
