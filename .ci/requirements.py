"""The requirements of an extra of pyproject.toml, for pip: it cannot install them without building the package."""

import sys
import tomllib

with open("pyproject.toml", "rb") as file:
    print(*tomllib.load(file)["project"]["optional-dependencies"][sys.argv[1]], sep="\n")
