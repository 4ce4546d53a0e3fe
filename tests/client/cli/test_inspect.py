"""inspect --remote: what an image is made of, in two requests and docker's shape."""

import json
import shutil
import subprocess
from typing import Any

import httpx
import pytest

from storage.oci.digest import Digest
from storage.oci.media_types import IMAGE_CONFIG, IMAGE_INDEX, IMAGE_MANIFEST, LAYER_GZIP
from storage.oci.names import RepositoryName
from tests.client.cli.program import Cargohold
from tests.client.lying import Received, lying, reply
from tests.registry.pushing import Repository, descriptor

DIFF_ID = f"sha256:{'1' * 64}"
EXECUTION = {
    "User": "1000",
    "ExposedPorts": {"80/tcp": {}},
    "Env": ["PATH=/bin", "A=b c"],
    "Entrypoint": ["/entry"],
    "Cmd": ["run", "--fast"],
    "Volumes": {"/data": {}},
    "WorkingDir": "/srv",
    "Labels": {"version": "1.2", "org.example/key": "ünï"},
    "StopSignal": "SIGQUIT",
}
LAYER = b"a layer"


def config(**more: Any) -> bytes:
    document = {
        "created": "2024-02-03T04:05:06.789Z",
        "author": "somebody",
        "architecture": "arm64",
        "variant": "v8",
        "os": "linux",
        "config": EXECUTION,
        "rootfs": {"type": "layers", "diff_ids": [DIFF_ID]},
        **more,
    }
    return json.dumps(document).encode()


def manifest(config: bytes, **more: Any) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": IMAGE_MANIFEST,
        "config": descriptor(IMAGE_CONFIG, config),
        "layers": [descriptor(LAYER_GZIP, LAYER)],
        **more,
    }
    return json.dumps(document).encode()


def push(repository: Repository, reference: object, config: bytes) -> bytes:
    repository.push_blob(config)
    repository.push_blob(LAYER)
    body = manifest(config)
    assert repository.put_manifest(reference, body).status_code == 201
    return body


def push_index(repository: Repository, tag: str) -> dict[str, bytes]:
    """Push an index of two platforms; return their manifests, and its own bytes under `index`."""
    bodies = {}
    children = []
    for architecture in ("amd64", "s390x"):
        body = manifest(config(architecture=architecture, variant=None))
        push(repository, Digest.of(body), config(architecture=architecture, variant=None))
        bodies[architecture] = body
        platform = {"os": "linux", "architecture": architecture}
        children.append(descriptor(IMAGE_MANIFEST, body, platform=platform))
    document = {"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": children}
    bodies["index"] = json.dumps(document).encode()
    assert repository.put_manifest(tag, bodies["index"], IMAGE_INDEX).status_code == 201
    return bodies


@pytest.fixture
def image(our_registry: str, name: RepositoryName) -> str:
    """An image at our registry."""
    with httpx.Client(base_url=f"http://{our_registry}") as client:
        push(Repository(client, str(name)), "v1", config())
    return f"{our_registry}/{name}:v1"


def test_describes_an_image_as_docker_does(
    cargohold: Cargohold, registry: str, repository: Repository
) -> None:
    body = push(repository, "v1", config())
    name = f"{registry}/{repository.name}"

    done = cargohold.run("inspect", "--remote", f"{name}:v1")

    assert (done.code, done.err) == (0, "")
    assert done.json == [
        {
            "Id": str(Digest.of(config())),
            "RepoTags": [f"{name}:v1"],
            "RepoDigests": [f"{name}@{Digest.of(body)}"],
            "Created": "2024-02-03T04:05:06.789Z",
            "Author": "somebody",
            "Architecture": "arm64",
            "Variant": "v8",
            "Os": "linux",
            "OsVersion": "",
            "Size": len(LAYER),
            "Config": EXECUTION,
            "RootFS": {"Type": "layers", "Layers": [DIFF_ID]},
            "Descriptor": {"mediaType": IMAGE_MANIFEST, "digest": str(Digest.of(body)), "size": len(body)},
        }
    ]


def test_needs_two_requests(cargohold: Cargohold) -> None:
    def answer(received: Received) -> Any:
        if "/manifests/" in received.path:
            return reply(200, manifest(config()), Content_Type=IMAGE_MANIFEST)
        return reply(200, config())

    with lying(answer) as server:
        done = cargohold.run("inspect", "--remote", "--plain-http", f"{server.address}/library/app")

    assert done.code == 0
    assert [each.path for each in server.requests] == [
        "/v2/library/app/manifests/latest",
        f"/v2/library/app/blobs/{Digest.of(config())}",
    ]


def test_prints_exact_bytes(cargohold: Cargohold, registry: str, repository: Repository) -> None:
    body = push(repository, "v1", config())
    name = f"{registry}/{repository.name}:v1"

    assert cargohold.run("inspect", "--remote", "--raw", name).out.encode() == body
    assert cargohold.run("inspect", "--remote", "--config", name).out.encode() == config()


def test_chooses_the_platform_of_an_index(
    cargohold: Cargohold, registry: str, repository: Repository
) -> None:
    bodies = push_index(repository, "v1")
    name = f"{registry}/{repository.name}"
    inspect = ("inspect", "--remote", f"{name}:v1", "--platform")

    (found,) = cargohold.run(*inspect, "linux/s390x").json
    assert found["Architecture"] == "s390x"
    assert found["Descriptor"]["digest"] == str(Digest.of(bodies["s390x"]))
    assert found["RepoDigests"] == [f"{name}@{Digest.of(bodies['index'])}"]
    assert cargohold.run("inspect", "--remote", "--raw", f"{name}:v1").out.encode() == bodies["index"]

    absent = cargohold.run(*inspect, "linux/riscv64")
    assert absent.code == 3
    assert "has no image for linux/riscv64; it has linux/amd64, linux/s390x" in absent.err


def test_says_what_is_no_image(cargohold: Cargohold, registry: str, repository: Repository) -> None:
    subject = push(repository, "v1", config())
    artifact = repository.push_artifact(subject, "application/vnd.example")

    done = cargohold.run("inspect", "--remote", f"{registry}/{repository.name}@{Digest.of(artifact)}")

    assert done.code == 1
    assert "is no image but application/vnd.example: --raw shows it" in done.err


def test_takes_the_registry_when_a_mirror_fails(cargohold: Cargohold, our_registry: str, image: str) -> None:
    cargohold.registries.write_text(
        f'[[registry]]\nlocation = "{our_registry}"\n'
        '[[registry.mirror]]\nlocation = "127.0.0.1:1"\ninsecure = true\n'
    )

    done = cargohold.run("inspect", "--remote", image, "--format", "{{.Os}}")

    assert (done.code, done.out) == (0, "linux\n")


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("{{.Os}}/{{.Architecture}}", "linux/arm64"),
        ("{{.Config.Labels.version}}", "1.2"),
        ("{{.Config.Labels.none}}", "<no value>"),
        ('{{index .Config.Labels "org.example/key"}}', "ünï"),
        ("{{json .Config.Cmd}}", '["run","--fast"]'),
        ("{{range $port, $_ := .Config.ExposedPorts}}{{$port}} {{end}}", "80/tcp "),
        ("{{range .Config.Env}}{{println .}}{{end}}", "PATH=/bin\nA=b c\n"),
    ],
    ids=str,
)
def test_fills_a_template(cargohold: Cargohold, image: str, template: str, line: str) -> None:
    done = cargohold.run("inspect", "--remote", "-f", template, image)

    assert (done.code, done.out) == (0, f"{line}\n")


def test_refuses_a_template_that_it_does_not_know(
    cargohold: Cargohold, registry: str, repository: Repository
) -> None:
    push(repository, "v1", config())

    done = cargohold.run("inspect", "--remote", "-f", "{{.Nothing}}", f"{registry}/{repository.name}:v1")

    assert (done.code, done.out) == (2, "")
    assert done.errors[0].startswith("error: --format: no field 'Nothing'; there are Id, RepoTags")


# What Go makes of the same configuration.
ORACLE = (
    "{{.Config.Labels}}",
    "{{.Config.Labels.version}}|{{.Config.Labels.none}}",
    '{{index .Config.Labels "none"}}|{{index .Config.Env 1}}|{{len .Config.Env}}',
    "{{.Config.Env}} {{.Config.ExposedPorts}}",
    "{{range $i, $e := .Config.Env}}{{$i}}={{$e}};{{else}}none{{end}}",
    "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}",
    "x  {{- range .Config.Cmd -}}  {{ . }}  {{- end -}}  y",
    "{{if .Config.User}}user{{else}}root{{end}}",
    '{{if eq .Architecture "amd64"}}a{{else if eq .Architecture "arm64" "x"}}b{{else}}c{{end}}',
    "{{with .Config}}{{.User}}{{.WorkingDir}}{{end}}",
    '{{index .Config.Cmd 0 | printf "%-15s|"}}',
    '{{printf "%q %v %5s|%05d %t %%" .Config.User .Config.Cmd "x" 42 true}}',
    '{{println "a" 1 true}}',
    '{{and .Config.User "yes"}} {{or "" .Config.WorkingDir}} {{not .Config.User}} {{ne 1 2}}',
    '{{$x := "a"}}{{if true}}{{$x = "b"}}{{end}}{{$x}}',
    "{{/* nothing */}}x{{`raw {{ string`}}",
    "{{(index .Config.Cmd 0)}} {{len .Config.User}} {{(.Config).WorkingDir}}",
)


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_fills_templates_as_go_does(cargohold: Cargohold, image: str) -> None:
    skopeo = ["skopeo", "--override-arch=arm64", "inspect", "--tls-verify=false", "--config", "--format"]

    template = "\n---\n".join(ORACLE)

    go = subprocess.run([*skopeo, template, f"docker://{image}"], capture_output=True, text=True, check=True)

    assert cargohold.run("inspect", "--remote", "-f", template, image).out == go.stdout
