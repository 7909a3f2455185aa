"""Bringing a release to its target: first a plan, then its execution, then a receipt.

``planning.make_plan`` reads and compares; ``carry_out.publish`` carries out what the plan says is
to do. One module for each kind of thing at the destination: images and push, objects and upload,
secrets, chart, pointer. Import the module, not us: whoever only pushes images loads no more.
"""
