"""Every hostile input that we know of, against the real command: README.md says where each is."""
