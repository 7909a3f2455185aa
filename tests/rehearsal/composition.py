"""Puts one rehearsal together: certificates, configurations, and what process 1 shall start."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

from tests.rehearsal import addresses, aws, dns, load_balancer, registry, s3
from tests.rehearsal.certificates import Authority, KeyPair
from tests.rehearsal.daemon import Daemon, write_plan
from tests.rehearsal.kube_daemons import Kubernetes
from tests.rehearsal.kube_files import KubeFiles
from tests.rehearsal.site import Site, write_enter

_S3_LAYOUT = s3.Layout(
    host=addresses.NODE,
    port=addresses.S3_PORT,
    grpc=18333,
    master=(9333, 19333),
    volume=(9340, 19340),
    filer=(8888, 18888),
)


def compose(site: Site, kube: Path, registry_password: str) -> None:
    """Write everything below the site's state directory.

    Args:
        site: What it is going to offer.
        kube: The program that is all of Kubernetes.
        registry_password: What the registry shall ask for.
    """
    for name in ("varlib", "opt"):
        (site.state / name).mkdir()
    tls = site.ca_file.parent
    tls.mkdir()
    authority = Authority(tls, site.ca_file.stem)
    registry.write_login(site.registry_config, site.registry, registry_password)
    files = KubeFiles(site.state, site.node)
    files.write(site.ca_file, (registry.USERNAME, registry_password))
    daemons = [
        *Kubernetes(kube, files).daemons(),
        _module("dns", dns.__name__, files.pki, ready=f"udp://{addresses.NODE}:{dns.PORT}"),
        _registry(site, authority, registry_password),
        *_s3(site, authority),
        _load_balancer(authority, files.pki),
        aws.daemon(addresses.NODE, addresses.AWS_PORT),
    ]
    write_plan(site.state / "plan.json", daemons)
    write_enter(site.enter, site.node, files.conf / "resolv.conf")
    site.save()


def new_site(name: str, node: str, state: Path) -> Site:
    """Say what a rehearsal in ``state`` is going to offer; nothing of it is there yet."""
    credentials = s3.S3Credentials(access_key=s3.ACCESS_KEY, secret_key=secrets.token_urlsafe(24))
    return Site(
        name=name,
        node=node,
        state=state,
        registry=addresses.REGISTRY,
        registry_config=state / "docker",
        ca_file=state / "tls" / "ca.crt",
        s3_endpoint=addresses.S3_ENDPOINT,
        s3_credentials=credentials,
        bucket=addresses.BUCKET,
        aws_endpoint=addresses.AWS_ENDPOINT,
        kubeconfig=state / "kubeconfig",
        enter=state / "enter",
    )


def _registry(site: Site, authority: Authority, password: str) -> Daemon:
    names = (addresses.REGISTRY_NAME, addresses.NODE)
    pair = authority.issue("registry", subject=addresses.REGISTRY_NAME, names=names)
    address = f"{addresses.NODE}:{addresses.REGISTRY_PORT}"
    return registry.daemon(site.state, address, pair=pair, password=password)


def _s3(site: Site, authority: Authority) -> list[Daemon]:
    names = (addresses.S3_NAME, f"*.{addresses.S3_NAME}", addresses.NODE)
    pair = authority.issue("s3", subject=addresses.S3_NAME, names=names)
    return s3.daemons(
        site.state,
        _S3_LAYOUT,
        site.s3_credentials,
        pair=(pair.certificate, pair.key),
        buckets=[site.bucket],
    )


def _load_balancer(authority: Authority, pki: Path) -> Daemon:
    names = (f"*.{addresses.MODELS_DOMAIN}",)
    pair: KeyPair = authority.issue("ingress", subject=names[0], names=names)
    where = f"tcp://{addresses.NODE}:{load_balancer.PORT}"
    return _module(
        "load-balancer", load_balancer.__name__, pki, pair.certificate, pair.key, ready=where
    )


def _module(name: str, module: str, *arguments: Path, ready: str) -> Daemon:
    argv = [sys.executable, "-m", module, *(str(argument) for argument in arguments)]
    return Daemon(name=name, argv=argv, ready=ready)
