"""Puts the files of a study, which lie at the root of the checkout, into the wheel."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class StudyFiles(BuildHookInterface[Any]):
    """See `rc2l_bench/study.py`. An editable install finds the files where they are."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files that pyproject.toml lists."""
        if version == "standard":
            build_data["force_include"] |= {name: f"rc2l_bench/study_files/{name}" for name in self.config["study"]}
