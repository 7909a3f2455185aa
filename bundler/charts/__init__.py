"""Helm charts as builders and verifiers see them: read, rendered, searched for images.

Rendering is asked of a ``ChartRenderer``; what is found in the objects is decided by the pure
modules ``image_discovery`` and ``closure``.
"""
