"""Readers of what docker, podman and containerd were told; client.hosts makes one model of it."""
