"""The verbs of the local store: what they print, and how they end."""

import json
from pathlib import Path

import pytest

from tests.client.cli.program import Cargohold
from tests.client.store.layouts import AMD64, ARM64, BASE, TOP, Layout

NAME = "registry.example/team/app:v1"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


@pytest.fixture
def loaded(cargohold: Cargohold, layout: Layout, tmp_path: Path) -> Cargohold:
    """A store with one image, loaded under one name."""
    load(cargohold, layout, tmp_path, NAME)
    return cargohold


def load(cargohold: Cargohold, layout: Layout, tmp_path: Path, name: str, *layers: bytes) -> str:
    """Bring an image into the store without a registry; return its digest."""
    made = layout.tag(layout.image(*(layers or (BASE, TOP)), config={"Labels": {"team": "a"}}), name)
    archive = tmp_path / "archive.tar"
    ended = cargohold.run("copy", "-q", f"oci:{layout.root}:{name}", f"docker-archive:{archive}:{name}")
    assert ended.code == 0, ended.err
    ended = cargohold.run("load", "-q", "-i", archive)
    assert ended.lines == [f"Loaded image: {name}"], ended.err
    archive.unlink()
    return str(made.digest)


def test_images_lists_names_ids_and_sizes(loaded: Cargohold) -> None:
    heading, row = loaded.run("images").lines

    assert heading.split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE", "PLATFORM"]
    assert row.split()[:2] == ["registry.example/team/app", "v1"]
    listed = json.loads(loaded.run("images", "--json").out)
    assert listed["CreatedAt"] == "2026-01-02T03:04:05Z"
    assert listed["Size"] == len(b"base\nroot:x:0:0::/:/bin/sh\n#!/bin/sh\n")
    assert loaded.run("images", "-q").lines == [listed["ID"].removeprefix("sha256:")[:12]]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        pytest.param(["registry.example/team/app"], True, id="name"),
        pytest.param(["registry.example/*/app:v*"], True, id="pattern"),
        pytest.param(["other"], False, id="another-name"),
        pytest.param(["--filter", "label=team"], True, id="label"),
        pytest.param(["--filter", "label=team=a"], True, id="label-and-value"),
        pytest.param(["--filter", "label=team=b"], False, id="label-with-another-value"),
        pytest.param(["--filter", "label=team=b", "--filter", "label=team=a"], True, id="either-label"),
        pytest.param(["--filter", "dangling=true"], False, id="dangling"),
        pytest.param(["--filter", "dangling=false"], True, id="not-dangling"),
        pytest.param(["--filter", "until=2026-01-01"], False, id="until-before-it"),
        pytest.param(["--filter", "until=2026-01-03T00:00:00Z"], True, id="until-after-it"),
        pytest.param(["--filter", f"before={NAME}"], False, id="before-itself"),
    ],
)
def test_images_filters(loaded: Cargohold, arguments: list[str], found: bool) -> None:
    assert bool(loaded.run("images", "-q", *arguments).lines) == found


def test_images_lists_the_names_that_match_alone(loaded: Cargohold) -> None:
    loaded.run("tag", NAME, "other:v2")

    found = loaded.run("images", "--format", "{{.Repository}}:{{.Tag}}", "other").lines

    assert found == ["other:v2"]


@pytest.mark.parametrize("text", ["size=1", "dangling=maybe", "until=tomorrow", "label", "before=none"])
def test_a_filter_that_is_none_is_misuse(loaded: Cargohold, text: str) -> None:
    ended = loaded.run("images", "--filter", text)

    assert (ended.code, ended.out) == (2, "")
    assert "--filter" in ended.errors[0]


def test_an_image_without_a_name_is_hidden_until_it_is_asked_for(
    loaded: Cargohold, layout: Layout, tmp_path: Path
) -> None:
    load(loaded, layout, tmp_path, NAME, BASE)

    ended = loaded.run("images")
    assert len(ended.lines) == 2
    assert ended.errors == ["1 without a name is hidden: show with -a"]
    assert [line.split()[:2] for line in loaded.run("images", "-a").lines[1:]] == [
        ["registry.example/team/app", "v1"],
        ["<none>", "<none>"],
    ]
    assert len(loaded.run("images", "-q", "--filter", "dangling=true").lines) == 1


def test_tag_rmi_and_prune(loaded: Cargohold, layout: Layout, tmp_path: Path) -> None:
    assert loaded.run("tag", NAME, "other:v2").lines == ["docker.io/library/other:v2"]
    assert loaded.run("rmi", NAME).lines == [f"Untagged: {NAME}"]

    digest = json.loads(loaded.run("images", "--json").out)["Digest"]
    dry = loaded.run("prune", "--all", "--dry-run")
    assert dry.lines[0] == f"image {digest}"
    assert dry.errors[-1].startswith("would free ")
    assert len(loaded.run("images").lines) == 2

    ended = loaded.run("rmi", "other:v2")
    assert ended.lines == ["Untagged: docker.io/library/other:v2", f"Deleted: {digest}"]
    assert ended.errors[-1].startswith("freed ")
    assert loaded.run("prune").errors == ["freed 0B"]
    assert [int(row["Size"]) for row in loaded.run("df", "--json").json["types"]] == [0, 0, 0]


def test_an_image_with_several_names_is_removed_by_force_alone(loaded: Cargohold) -> None:
    loaded.run("tag", NAME, "other:v2")
    (identity,) = set(loaded.run("images", "-q").lines)

    ended = loaded.run("rmi", identity)
    assert ended.code == 1
    assert "has several names" in ended.err
    assert len(loaded.run("rmi", "--force", identity).lines) == 3


@pytest.mark.parametrize("verb", ["history", "rmi", "push", "inspect", "save", "tag"])
def test_an_image_that_is_not_here_is_not_found(cargohold: Cargohold, verb: str) -> None:
    more = {"save": ["-o", "x.tar"], "tag": ["other:v2"]}.get(verb, [])

    ended = cargohold.run(verb, "sha256:" + 64 * "0", *more)

    assert ended.code == 3, ended.err
    assert ended.out == ""


def test_history_shows_the_newest_step_first(loaded: Cargohold) -> None:
    lines = loaded.run("history", NAME).lines

    assert [line.split()[2] + line.split()[3] for line in lines[1:]] == ["layer1", "layer0"]


def test_inspect_shows_the_image_and_its_names(loaded: Cargohold) -> None:
    (found,) = loaded.run("inspect", NAME).json

    assert found["RepoTags"] == [NAME]
    assert found["Config"]["Labels"] == {"team": "a"}
    assert found["Size"] == len(b"base\nroot:x:0:0::/:/bin/sh\n#!/bin/sh\n")
    raw = loaded.run("inspect", "--raw", NAME)
    assert json.loads(raw.out)["config"]["digest"] == found["Id"]


def test_files_are_read_where_they_lie(loaded: Cargohold, tmp_path: Path) -> None:
    assert loaded.run("ls", NAME).lines == ["app", "etc"]
    assert loaded.run("ls", "-R", NAME, "/").lines == ["app", "app/run", "etc", "etc/passwd"]
    assert loaded.run("cat", NAME, "/app/run").out == "#!/bin/sh\n"
    ended = loaded.run("cat", NAME, "/etc/hostname")
    assert (ended.code, ended.out) == (3, "")
    assert loaded.run("cat", NAME, "/app").code == 1
    target = tmp_path / "part"
    assert loaded.run("unpack", NAME, target, "--path", "app/run").lines == [str(target)]
    assert (target / "run").read_text() == "#!/bin/sh\n"


def test_diff_says_what_changed_and_ends_with_one(loaded: Cargohold, layout: Layout, tmp_path: Path) -> None:
    load(loaded, layout, tmp_path, "registry.example/team/app:v0", BASE)

    ended = loaded.run("diff", "registry.example/team/app:v0", NAME)

    assert ended.code == 1
    assert ended.lines == ["A /app", "A /app/run", "C /etc", "D /etc/hostname"]
    same = loaded.run("diff", NAME, NAME)
    assert (same.code, same.out) == (0, "")


def test_unpack_makes_a_tree_or_nothing(loaded: Cargohold, tmp_path: Path) -> None:
    target = tmp_path / "tree"

    assert loaded.run("unpack", NAME, target).lines == [str(target)]
    assert sorted(path.name for path in target.iterdir()) == ["app", "etc"]
    again = loaded.run("unpack", NAME, target)
    assert again.code == 1
    assert "is not empty" in again.err
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".tree")] == []


def test_what_was_changed_is_found_and_healed(loaded: Cargohold) -> None:
    assert loaded.run("store", "check").errors == ["nothing is wrong"]
    store = loaded.home.directory / "store"
    (changed,) = store.glob("layers/*/diff/app/run")
    changed.write_text("#!/bin/evil\n")

    ended = loaded.run("store", "check")
    assert ended.code == 6
    assert "app/run" in ended.lines[0]
    assert loaded.run("store", "check", "--repair").code == 0
    assert changed.read_text() == "#!/bin/sh\n"


def test_a_directory_that_is_no_store_is_refused(cargohold: Cargohold, tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    (tmp_path / "else/file").touch()

    ended = cargohold.run("--store", tmp_path / "else", "images")

    assert (ended.code, ended.out) == (1, "")
    assert "neither empty nor a store" in ended.errors[0]


def test_save_keeps_digests_and_load_brings_all_images_back(
    loaded: Cargohold, layout: Layout, tmp_path: Path
) -> None:
    index = layout.tag(
        layout.index(layout.image(BASE, platform=AMD64), layout.image(TOP, platform=ARM64)), "many:1"
    )
    archive = tmp_path / "many.tar"
    assert loaded.run("copy", "-q", f"oci:{layout.root}:many:1", f"oci-archive:{archive}:many:1").code == 0
    assert loaded.run("load", "-q", "-i", archive, "--platform", "linux/arm64").code == 0
    saved = tmp_path / "saved.tar"

    assert loaded.run("save", "-q", "-o", saved, NAME, "many:1").code == 0
    ended = loaded.run("--store", tmp_path / "other", "load", "-q", "-i", saved)

    assert ended.lines == [f"Loaded image: {NAME}", "Loaded image: docker.io/library/many:1"]
    rows = [json.loads(line) for line in loaded.run("--store", tmp_path / "other", "images", "--json").lines]
    assert {row["Digest"] for row in rows if row["Repository"] == "many"} == {str(index.digest)}
    assert {row["Platform"] for row in rows if row["Repository"] == "many"} == {"linux/arm64/v8"}
