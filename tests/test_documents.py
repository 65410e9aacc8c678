"""What README and docs tell to run is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

pytestmark = pytest.mark.skipif(not (ROOT / "Makefile").exists(), reason="only in a checkout")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_targets_and_files(document):
    text = document.read_text()
    targets = set(re.findall(r"(?m)(?:^|`|\w=\w+ )make ([a-z-]+)", text))
    files = set(re.findall(r"\b(?:tests|docs|compat|benchmarks|examples)/[\w/]+\.\w+", text))
    known = set(re.findall(r"^\.PHONY:((?:.*\\\n)*.*)", (ROOT / "Makefile").read_text(), re.M)[0].split())
    assert targets
    assert targets - known == set()
    assert [name for name in files if not (ROOT / name).exists()] == []


def test_variables_of_the_reliability_page():
    """Each of them is one that its test asks for."""
    page = (ROOT / "docs" / "reliability.md").read_text()
    found = re.findall(r"`((?:[A-Z]+=\w+ )+)make pytest ARGS=(tests/\w+\.py)`", page)
    assert len(found) == 4
    for variables, name in found:
        source = (ROOT / name).read_text()
        for variable in re.findall(r"[A-Z]+(?==)", variables):
            assert f'"{variable}"' in source or f"'{variable}'" in source, f"{name} knows no {variable}"
