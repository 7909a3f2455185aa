"""Files on this machine: atomic writes, tar, stored gzip, OCI archives."""
