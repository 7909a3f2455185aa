"""Tests of bundle, and the rehearsal that they and the demo run in."""
