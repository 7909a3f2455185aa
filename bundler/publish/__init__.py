"""Bringing a release to its target: first a plan, then its execution, then a receipt.

``make_plan`` reads and compares; ``publish`` carries out what the plan says is to do. One module
for each kind of thing at the destination: images and push, objects and upload, secrets, chart,
pointer.
"""

from __future__ import annotations

from bundler.publish.carry_out import publish
from bundler.publish.destination import Destination
from bundler.publish.plan import Kind, Plan, State, Step, require_no_conflicts
from bundler.publish.planning import make_plan
from bundler.publish.pointer import Allowances
from bundler.publish.push import DEFAULT_OPTIONS, PushOptions
from bundler.publish.secrets import WantedSecret, read_secrets

__all__ = [
    "DEFAULT_OPTIONS",
    "Allowances",
    "Destination",
    "Kind",
    "Plan",
    "PushOptions",
    "State",
    "Step",
    "WantedSecret",
    "make_plan",
    "publish",
    "read_secrets",
    "require_no_conflicts",
]
