"""Names, addresses and ports inside a rehearsal; the same in each, as each has its own network."""

from __future__ import annotations

NODE = "10.200.0.1"
POD_NETWORK = "10.244.0.0/24"
SERVICE_NETWORK = "10.96.0.0/16"
SERVICE_API = "10.96.0.1"

REGISTRY_NAME = "registry.rehearsal.test"
REGISTRY_PORT = 5000
REGISTRY = f"{REGISTRY_NAME}:{REGISTRY_PORT}"
S3_NAME = "s3.rehearsal.test"
S3_PORT = 8333
S3_ENDPOINT = f"https://{S3_NAME}:{S3_PORT}"
AWS_NAME = "aws.rehearsal.test"
AWS_PORT = 5566
AWS_ENDPOINT = f"http://{AWS_NAME}:{AWS_PORT}"
MODELS_DOMAIN = "models.rehearsal.test"
CLUSTER_DOMAIN = "cluster.local"
API_PORT = 6443

REGION = "us-east-1"
BUCKET = "models"
