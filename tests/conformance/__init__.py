"""Cases of the conformance suites of others, by their names: README.md says where each is."""
