"""/metrics: the farm's numbers in the text format of Prometheus.

Knows the names and help texts of the metrics. Must not keep state between two scrapes: each one
asks the gateway for the counts and forgets them, so that a number can never be stale.

Always holds: metrics are named `roost_*`, in a registry of their own; a job status that
occurs in no job is still there with 0, so that graphs do not have holes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from roost import __version__
from roost.core.records import JobStatus
from roost.gateway import FarmCounts, NodeView, Pace

CONTENT_TYPE = CONTENT_TYPE_LATEST

NAMES_ONLY = frozenset({JobStatus.WAITING, JobStatus.EJECTED})
"""Words that are never a job's status."""


class _Counts(Collector):
    def __init__(self, counts: FarmCounts, pace: Pace, nodes: Sequence[NodeView]) -> None:
        self.counts = counts
        self.pace = pace
        self.nodes = nodes

    def collect(self) -> Iterator[Metric]:
        counts = self.counts
        build = GaugeMetricFamily("roost_build_info", "Always 1.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        jobs = GaugeMetricFamily("roost_jobs", "Live jobs by status.", labels=["status"])
        for status in JobStatus:
            if status not in NAMES_ONLY:
                jobs.add_metric([status.value], counts.jobs.get(status.value, 0))
        yield jobs
        for name, text, value in (
            ("roost_nodes", "Nodes that are registered.", counts.nodes),
            ("roost_nodes_busy", "Active nodes that run something.", counts.nodes_busy),
            ("roost_nodes_active", "Nodes that are heard from.", counts.nodes_active),
            ("roost_cpus", "CPUs of the active nodes.", counts.cpus),
            ("roost_cpus_busy", "CPUs taken by running jobs.", counts.cpus_busy),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        pace = self.pace
        runs = CounterMetricFamily("roost_runs", "Runs that are over.", labels=["outcome"])
        runs.add_metric(["failed"], pace.failed)
        runs.add_metric(["other"], pace.ended - pace.failed)
        yield runs
        yield GaugeMetricFamily(
            "roost_failed_an_hour", "Runs that failed in the last hour.", value=pace.failed_an_hour
        )
        waits = GaugeMetricFamily(
            "roost_wait_seconds", "How long jobs waited that began of late.", labels=["quantile"]
        )
        for quantile, wait_ms in (
            ("0.5", pace.wait_p50_ms),
            ("0.9", pace.wait_p90_ms),
            ("0.99", pace.wait_p99_ms),
        ):
            waits.add_metric([quantile], wait_ms / 1000)
        yield waits
        yield from self._of_nodes()

    def _of_nodes(self) -> Iterator[Metric]:
        """Of those that are heard from: what the others said last is no measurement."""
        load = GaugeMetricFamily("roost_node_load", "Load of a node.", labels=["node"])
        memory = GaugeMetricFamily("roost_node_memory_bytes", "Memory of a node.", labels=["node"])
        used = GaugeMetricFamily(
            "roost_node_memory_used_bytes", "Memory in use on a node.", labels=["node"]
        )
        for node in (view.node for view in self.nodes if view.node.active):
            label = [node.facts.label]
            load.add_metric(label, node.load)
            memory.add_metric(label, node.facts.memory_kb * 1024)
            if node.memory_used_kb:
                used.add_metric(label, node.memory_used_kb * 1024)
        yield from (load, memory, used)


def text(counts: FarmCounts, pace: Pace, nodes: Sequence[NodeView]) -> bytes:
    """The page, of type `CONTENT_TYPE`."""
    registry = CollectorRegistry()
    registry.register(_Counts(counts, pace, nodes))
    return generate_latest(registry)
