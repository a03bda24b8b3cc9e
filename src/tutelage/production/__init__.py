"""Production: a run's model exported, its threshold guaranteed, new ads scored and served, and what passed audited.

Everything here needs the extra ``serve``, and training imports nothing of it. What answers requests (`server` and what it
imports) needs no PyTorch.
"""
