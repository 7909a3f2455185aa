"""A stand-in for an inference server: the contract of vLLM's server, without an engine behind it.

It reads every byte of a checkpoint's weights and answers with words that depend on all of them.
It serves to rehearse and to test how a model gets to a cluster; it knows nothing.
"""

VERSION = "0.1.0+stand-in"
