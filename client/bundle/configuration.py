"""An image's configuration as a runtime's.

Source: image-spec conversion.md, which names what is to be copied and how; runtime-spec config.md and
config-linux.md for the rest, where the choices are ours (defaults.py).
"""

import os
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path

from client.bundle import defaults
from client.bundle.defaults import Json
from client.bundle.errors import BundleRefused
from client.bundle.options import BundleOptions, Network, Volumes, normal
from client.bundle.user_namespace import IdMapping
from client.bundle.users import User
from storage.oci.image_config import ImageConfig

# runc 1.1 and crun know this version, and newer ones know it too.
_VERSION = "1.0.2"
_PREFIX = "org.opencontainers.image."


def configuration(image: ImageConfig, user: User, options: BundleOptions, volumes: Mapping[str, str]) -> Json:
    """Return config.json for a root file system in `rootfs`; `volumes` are directories by their place in it.

    Raises BundleRefused for an image of another system, for one without a command, and for texts that a
    process cannot be given.
    """
    if image.platform.os != "linux":
        raise BundleRefused(f"the image is for {image.platform.os}, and bundles are made for linux")
    document: Json = {
        "ociVersion": _VERSION,
        "root": {"path": "rootfs", "readonly": options.read_only_root},
        "hostname": options.hostname,
        "process": _process(image, user, options),
        "mounts": _mounts(image, options, volumes),
        "linux": _linux(options),
    }
    _check_texts(document)
    if labels := annotations(image):
        document["annotations"] = labels
    return document


def _check_texts(value: object) -> None:
    match value:
        case str():
            if "\0" in value or _is_not_utf_8(value):
                raise BundleRefused(f"a text with a NUL, or that is not UTF-8: {value!r}")
        case list():
            for item in value:
                _check_texts(item)
        case dict():
            for item in value.values():
                _check_texts(item)


def _is_not_utf_8(text: str) -> bool:
    """Whether it came from bytes of a command line that were none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def annotations(image: ImageConfig) -> dict[str, str]:
    """Return what the image says of itself; a label wins over a member of the same name."""
    platform, execution = image.platform, image.execution
    members = {
        "os": platform.os,
        "architecture": platform.architecture,
        "variant": platform.variant,
        "os.version": platform.os_version,
        "os.features": ",".join(platform.os_features),
        "author": image.author,
        "created": image.created,
        "stopSignal": execution.stop_signal,
        "exposedPorts": ",".join(sorted(execution.exposed_ports)),
    }
    implicit = {_PREFIX + name: value for name, value in members.items() if value}
    return implicit | dict(execution.labels)


def _process(image: ImageConfig, user: User, options: BundleOptions) -> Json:
    execution = image.execution
    process: Json = {
        "terminal": options.terminal,
        "user": {"uid": user.uid, "gid": user.gid},
        "args": _args(image, options),
        "env": environment(execution.env, user, options),
        "cwd": _working_dir(options.working_dir or execution.working_dir or "/"),
        "capabilities": _capabilities(user, options),
        "rlimits": [_open_files()],
        "noNewPrivileges": not options.new_privileges,
    }
    # Without root's powers nobody may choose groups.
    if user.additional_gids and options.user_namespace is None:
        process["user"]["additionalGids"] = list(user.additional_gids)
    return process


def _args(image: ImageConfig, options: BundleOptions) -> list[str]:
    entrypoint, command = image.execution.entrypoint, image.execution.cmd
    if options.entrypoint is not None:
        entrypoint, command = options.entrypoint, ()
    if options.command is not None:
        command = options.command
    if not (args := [*entrypoint, *command]):
        raise BundleRefused("the image says no command to run: give one")
    return args


def environment(image: Sequence[str], user: User, options: BundleOptions) -> list[str]:
    """Return the image's variables as they are, the caller's, and defaults for names that neither has."""
    given = {variable.partition("=")[0] for variable in options.env}
    env = [variable for variable in image if variable.partition("=")[0] not in given] + list(options.env)
    names = {variable.partition("=")[0] for variable in env}
    wanted = {"PATH": defaults.PATH, "HOME": user.home}
    if options.terminal:
        wanted["TERM"] = defaults.TERM
    return env + [f"{name}={value}" for name, value in wanted.items() if name not in names]


def _working_dir(path: str) -> str:
    # A runtime takes absolute paths only; docker takes others from the root.
    return path if path.startswith("/") else f"/{path}"


def _capabilities(user: User, options: BundleOptions) -> Json:
    """Return the sets; none is inheritable or ambient (CVE-2022-24769), and only root starts with any."""
    bounding = list(defaults.CAPABILITIES if options.capabilities is None else options.capabilities)
    held = bounding if user.uid == 0 else []
    return {"bounding": bounding, "permitted": held, "effective": held}


def _open_files() -> Json:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = defaults.OPEN_FILES
    limit = min(hard, defaults.OPEN_FILES)
    return {"type": "RLIMIT_NOFILE", "hard": limit, "soft": limit}


def _mounts(image: ImageConfig, options: BundleOptions, volumes: Mapping[str, str]) -> list[Json]:
    mounts = {place: _bind(source, place, read_only=False) for place, source in volumes.items()}
    if options.volumes is Volumes.TMPFS:
        mounts |= {place: _tmpfs(place) for place in volume_places(image)}
    for bind in options.binds:
        place = normal(bind.destination)
        mounts[place] = _bind(os.fspath(bind.source), place, read_only=bind.read_only)
    system = defaults.mounts() if options.user_namespace is None else defaults.users_mounts()
    # Outer ones first, so that none hides another.
    return system + [mounts[place] for place in sorted(mounts)]


def volume_places(image: ImageConfig) -> list[str]:
    """Return where the image's volumes are, outer ones first. Raises BundleRefused for one at the root."""
    places = sorted({normal(volume) for volume in image.execution.volumes})
    _check_texts(places)
    if "/" in places:
        raise BundleRefused("the image wants a volume in place of its root; try --volumes ignore")
    return places


def _tmpfs(place: str) -> Json:
    options = ["rw", "nosuid", "nodev", "mode=1777"]
    return {"destination": place, "type": "tmpfs", "source": "tmpfs", "options": options}


def _bind(source: str, place: str, *, read_only: bool) -> Json:
    options = ["rbind", "rprivate", "nosuid", "nodev", "ro" if read_only else "rw"]
    return {"destination": place, "type": "bind", "source": source, "options": options}


def _linux(options: BundleOptions) -> Json:
    linux: Json = {
        "namespaces": _namespaces(options),
        "maskedPaths": list(defaults.MASKED_PATHS),
        "readonlyPaths": list(defaults.READ_ONLY_PATHS),
    }
    if options.user_namespace is None:
        # The runtime itself allows the devices that it makes in /dev.
        linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    else:
        linux["uidMappings"] = [_mapping(mapping) for mapping in options.user_namespace.uids]
        linux["gidMappings"] = [_mapping(mapping) for mapping in options.user_namespace.gids]
    return linux


def _namespaces(options: BundleOptions) -> list[Json]:
    is_users = options.user_namespace is not None
    kinds = ["pid", "ipc", "uts", "mount", *(["user"] if is_users else [])]
    if not is_users and os.path.exists("/proc/self/ns/cgroup"):
        kinds.append("cgroup")
    namespaces: list[Json] = [{"type": kind} for kind in kinds]
    network = options.network or (Network.HOST if is_users else Network.NONE)
    if network is Network.NONE:
        namespaces.append({"type": "network"})
    elif isinstance(network, Path):
        namespaces.append({"type": "network", "path": os.fspath(network)})
    return namespaces


def _mapping(mapping: IdMapping) -> Json:
    return {"containerID": mapping.container, "hostID": mapping.host, "size": mapping.size}
