"""The servers and clients that are compiled here, since no package brings them."""

from __future__ import annotations

from tests.rehearsal.go_build import GoProgram

DISTRIBUTION = GoProgram(
    name="distribution",
    title="the registry Distribution",
    module="github.com/distribution/distribution/v3",
    file="registry",
    package="github.com/distribution/distribution/v3/cmd/registry",
    takes="about a minute and a half on two cores",
)
CRANE = GoProgram(
    name="crane",
    title="crane",
    module="github.com/google/go-containerregistry",
    file="crane",
    package="github.com/google/go-containerregistry/cmd/crane",
    takes="some seconds",
)
REGCTL = GoProgram(
    name="regctl",
    title="regctl",
    module="github.com/regclient/regclient",
    file="regctl",
    package="github.com/regclient/regclient/cmd/regctl",
    takes="some seconds",
)
REFERRERS = GoProgram(
    name="referrers",
    title="crane's registry with the referrers API",
    module="github.com/google/go-containerregistry",
    file="referrers",
    takes="some seconds",
)
MINIO = GoProgram(
    name="minio",
    title="the S3 server MinIO",
    module="github.com/minio/minio",
    file="minio",
    package="github.com/minio/minio",
    takes="two to three minutes on two cores",
)
S5CMD = GoProgram(
    name="s5cmd",
    title="s5cmd",
    module="github.com/peak/s5cmd/v2",
    file="s5cmd",
    package="github.com/peak/s5cmd/v2",
    takes="some seconds",
)
RCLONE = GoProgram(
    name="rclone",
    title="rclone",
    module="github.com/rclone/rclone",
    file="rclone",
    takes="a minute on two cores",
)
COSIGN = GoProgram(
    name="cosign",
    title="cosign",
    module="github.com/sigstore/cosign/v3",
    file="cosign",
    package="github.com/sigstore/cosign/v3/cmd/cosign",
    takes="about three minutes on two cores",
)
UMOCI = GoProgram(
    name="umoci",
    title="umoci",
    module="github.com/opencontainers/umoci",
    file="umoci",
    package="github.com/opencontainers/umoci/cmd/umoci",
    takes="half a minute on two cores",
)
SINK = GoProgram(
    name="sink", title="the sink that counts", module="", file="sink", takes="some seconds"
)
PROGRAMS = (DISTRIBUTION, CRANE, REGCTL, REFERRERS, MINIO, S5CMD, RCLONE, SINK, COSIGN, UMOCI)
