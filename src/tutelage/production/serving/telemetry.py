"""What the service tells Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LATENCY = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
TENTHS = tuple(tenth / 10 for tenth in range(1, 11))


class Telemetry:
    """The service's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self.requests = Counter("tutelage_requests", "Requests by status.", ["endpoint", "status"], registry=own)
        self.seconds = Histogram(
            "tutelage_request_seconds", "Time to answer.", ["endpoint"], buckets=LATENCY, registry=own
        )
        self.batches = Histogram("tutelage_batch_size", "Examples in a batch.", buckets=SIZES, registry=own)
        self.running = Gauge(
            "tutelage_running_requests", "Requests that are being scored or wait for it.", registry=own
        )
        self.refused = Counter("tutelage_refused", "Requests that were refused, by reason.", ["reason"], registry=own)
        self.scores = Histogram(
            "tutelage_score", "Scores, high for acceptable.", ["variant"], buckets=TENTHS, registry=own
        )
        self.decisions = Counter("tutelage_decisions", "Decisions.", ["variant", "decision", "shadow"], registry=own)
        self.shadowless = Counter(
            "tutelage_shadows_left_out", "Shadow scores left out under load or by a failure.", registry=own
        )
        self.model = Gauge(
            "tutelage_model", "1 for the version that each variant serves.", ["variant", "version"], registry=own
        )
        self.failures = Counter(
            "tutelage_model_load_failures", "New versions that could not be loaded.", ["variant"], registry=own
        )
