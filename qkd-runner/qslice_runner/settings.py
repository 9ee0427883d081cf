"""The settings of the runner: what it may reach, and the most that one job may use."""

import socket
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator
from qslice.worker.settings import WorkerSettings


class RunnerSettings(WorkerSettings):
    runner_state_dir: Path = Field(
        description="the folder of repository caches, locks and scratch files; made where missing"
    )
    docker_host: str | None = Field(
        None, description="the Docker engine, unix:// or tcp://; default: DOCKER_HOST, then unix"
    )
    worker_host: str = Field(
        default_factory=socket.gethostname, description="in the label of containers and images"
    )
    checkout: str | None = Field(
        None, description="in the label qslice.checkout of all that is made, if set"
    )
    runner_init: Path | None = Field(
        None, description="the compiled first process of containers; default: compiled with cc"
    )

    allow_file_repositories: Path | None = Field(
        None, description="the folder below which file:// repositories may be cloned"
    )
    allow_private_repositories: bool = Field(
        False, description="whether repositories may lie on private and loopback addresses"
    )
    allow_http_repositories: bool = Field(False, description="whether plain http:// is allowed")
    git_ssh_key: Path | None = Field(None, description="the private key for ssh repositories")
    git_ssh_known_hosts: Path | None = Field(None, description="the hosts that ssh may reach")
    git_proxy: str | None = Field(None, description="the proxy for https repositories")
    git_ca_file: Path | None = Field(None, description="certificates to trust, instead of system's")
    git_timeout_s: float = Field(300.0, gt=0, description="the longest time of one fetch")
    max_repository_mb: int = Field(1024, ge=1, description="the largest fetch and build context")
    repository_cache_mb: int = Field(
        10 * 1024, ge=1, description="room for all cached repositories"
    )

    build_timeout_s: float = Field(1800.0, gt=0, description="the longest time of one build")
    build_network: str = Field("default", description="the network of RUN steps; none: without")
    build_memory_mb: int = Field(2048, ge=64, description="memory of a RUN step")
    air_gapped: bool = Field(
        False, description="no image registry can be reached: a missing base image is an error"
    )
    max_image_mb: int = Field(16 * 1024, ge=1, description="the largest image that is kept")
    keep_images: int = Field(100, ge=0, description="built images that are kept")
    keep_images_h: float = Field(7 * 24.0, gt=0, description="hours an unused image is kept")
    min_free_mb: int = Field(1024, ge=0, description="free disk below which nothing is begun")

    allow_network: bool = Field(False, description="whether a run that asks for it gets a network")
    run_network: str = Field("qslice-run", description="that network's name; made where missing")
    max_cpus: float | None = Field(None, gt=0, description="default: all that the engine has")
    max_memory_mb: int | None = Field(None, ge=8, description="default: all that the engine has")
    max_pids: int = Field(4096, ge=1, description="processes and threads of one run")
    max_disk_mb: int = Field(
        4096, ge=1, description="room in /output and in /tmp, each, of one run"
    )
    max_walltime_s: float = Field(30 * 24 * 3600.0, gt=0, description="wall time of one run")
    warm_idle_s: float = Field(
        30.0, gt=0, description="seconds that a warm container waits for the next task of its batch"
    )

    @field_validator("runner_state_dir", "allow_file_repositories")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise ValueError("must be an absolute path")
        return value

    @model_validator(mode="after")
    def _ssh(self) -> Self:
        if (self.git_ssh_key is None) != (self.git_ssh_known_hosts is None):
            raise ValueError("git_ssh_key and git_ssh_known_hosts belong together")
        return self
