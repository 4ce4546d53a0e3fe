"""What the documents say about the tree is true."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "document", ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/operations.md"]
)
def test_every_file_that_a_document_links_or_names_exists(document: str) -> None:
    text = (ROOT / document).read_text()
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    named = re.findall(r"`((?:registry|storage|tests|docs)/[\w/.]+)`", text)

    for path in [*linked, *named]:
        assert (ROOT / path).exists() or (ROOT / document).parent.joinpath(path).exists(), path
