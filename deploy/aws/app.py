"""The CDK app: ``npx aws-cdk@2 deploy --context model=../../model --context email=me@example.com``."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import mkdtemp

from aws_cdk import App, Environment
from packing import packed
from stack import Moderation


def made(app: App) -> Moderation:
    """Return the stack that the context describes: model, email, stack, memory, concurrency."""

    def told(name: str, default: str) -> str:
        return str(app.node.try_get_context(name) or default)

    archive = Path(mkdtemp()) / "model.tar.gz"
    version = packed(Path(told("model", "../../model")), archive)
    return Moderation(
        app,
        told("stack", "TutelageModeration"),
        model=archive,
        model_version=version,
        email=told("email", "") or None,
        memory=int(told("memory", "3072")),
        concurrency=int(told("concurrency", "10")),
        env=Environment(account=os.environ.get("CDK_DEFAULT_ACCOUNT"), region=os.environ.get("CDK_DEFAULT_REGION")),
    )


if __name__ == "__main__":
    app = App()
    made(app)
    app.synth()
