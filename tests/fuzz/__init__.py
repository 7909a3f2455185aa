"""Coverage-guided fuzzing of every parser that meets unverified bytes; ``scripts/fuzz`` runs it.

``cases`` holds each input that ever was a finding, under its parser's name. ``test_cases.py``
replays them, with nothing but pytest.
"""
