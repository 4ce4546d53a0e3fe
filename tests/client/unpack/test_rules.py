"""UNP-01, UNP-03: what no module of the package may do."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import client.unpack

PACKAGE = Path(inspect.getfile(client.unpack)).parent
MODULES = sorted(PACKAGE.glob("*.py"))

# Modules that follow links, or unpack as they see fit.
FORBIDDEN_IMPORTS = {"tarfile", "shutil", "zipfile", "glob", "subprocess"}
# Calls that take a path, and how each is tied to a descriptor.
NEEDS_DIRECTORY = {
    "open",
    "mkdir",
    "mknod",
    "mkfifo",
    "symlink",
    "link",
    "unlink",
    "remove",
    "rmdir",
    "rename",
    "replace",
    "readlink",
    "stat",
    "lstat",
    "chmod",
    "chown",
    "lchown",
    "utime",
    "access",
    "makedirs",
    "truncate",
    "walk",
}
NOT_FOLLOWING = {"stat", "chown", "utime", "link"}
OF_PATH = NEEDS_DIRECTORY | {"lchmod", "write_bytes", "write_text", "touch", "symlink_to", "hardlink_to"}
# The directories that our caller names, opened once each; and our own descriptor's link.
ALLOWED = {
    ("layer.py", "os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)"),
    ("lowers.py", "os.open(layer, _LIST)"),
    ("reading.py", "os.open(root, _ROOT)"),
    ("attributes.py", "os.chmod(f'/proc/self/fd/{place}', mode)"),
}


def calls(module: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Call))


def of_os(call: ast.Call) -> str | None:
    function = call.func
    if (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id == "os"
    ):
        return function.attr
    return None


def on_descriptor(call: ast.Call) -> bool:
    """os.utime and os.chmod of a bare `fd`, as fchmod."""
    return bool(call.args) and isinstance(call.args[0], ast.Name) and call.args[0].id == "fd"


def is_path(value: ast.expr) -> bool:
    """What is called a path here, or made one on the spot; text has a `replace` too."""
    text = ast.unparse(value)
    return "Path(" in text or text in {"target", "layer", "path", "lower"}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_UNP_01_imports_nothing_that_unpacks(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            assert not FORBIDDEN_IMPORTS & {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.module not in FORBIDDEN_IMPORTS


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_UNP_01_touches_files_by_descriptor_only(module: Path) -> None:
    for call in calls(module):
        name, keywords = of_os(call), {keyword.arg for keyword in call.keywords}
        text = ast.unparse(call)
        if name not in NEEDS_DIRECTORY or (module.name, text) in ALLOWED or on_descriptor(call):
            continue
        assert keywords & {"dir_fd", "src_dir_fd"}, f"{module.name}: {text}"
        if name in NOT_FOLLOWING:
            assert "follow_symlinks=False" in text, f"{module.name}: {text}"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_UNP_01_uses_no_path_objects_and_no_builtin_open(module: Path) -> None:
    for call in calls(module):
        function, text = call.func, ast.unparse(call)
        assert not (isinstance(function, ast.Name) and function.id == "open"), f"{module.name}: {text}"
        if isinstance(function, ast.Attribute) and of_os(call) is None and is_path(function.value):
            assert function.attr not in OF_PATH, f"{module.name}: {text}"


def test_UNP_03_opens_with_no_follow() -> None:
    """O_TMPFILE has no name to follow."""
    for module in MODULES:
        for line in module.read_text().splitlines():
            if "os.O_CLOEXEC" in line and "os.O_TMPFILE" not in line:
                assert "os.O_NOFOLLOW" in line, f"{module.name}: {line}"


def test_has_no_more_exceptions_than_it_uses() -> None:
    for name, text in ALLOWED:
        assert text in {ast.unparse(call) for call in calls(PACKAGE / name)}
