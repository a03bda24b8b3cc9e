"""Production: a run's model exported, its threshold guaranteed, new ads scored and served, and what passed audited.

Everything here needs the extra ``serve``, and training imports nothing of it. What answers requests (`serving` and what it
imports) needs no PyTorch.
"""

import os

# From 1.29 on ONNX Runtime tells Microsoft of every model that it loads, by name and hash, unless this is set before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
