"""The other side of the air gap, on one machine: registry, S3, AWS calls and a Kubernetes node.

``rehearsal.py`` starts all of it in a network namespace that has no route out; ``registry.py``,
``s3.py`` and ``aws.py`` start one server each on loopback, for tests that need no more.
"""
