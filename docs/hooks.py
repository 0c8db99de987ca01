"""MkDocs hooks: they resolve links that leave docs/, and insert the flags of each command."""

import posixpath
import re
import subprocess
import sys

from gesture_jax.__main__ import COMMANDS

# Pages that show files outside docs/.
_PAGES = {
    "../README.md": "index.md",
    "../launch/README.md": "launch.md",
    "../benchmarks/README.md": "benchmarks.md",
    "../CONTRIBUTING.md": "contributing.md",
    "../CHANGELOG.md": "changes.md",
    "../configs": "configs.md",
}
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)]*)?\)")


def on_page_markdown(markdown: str, **_) -> str:
    """Runs after the plugins, so included files are already inserted."""
    if "@commands@" in markdown:
        markdown = markdown.replace("@commands@", "\n\n".join(map(_describe, COMMANDS)))
    return _LINK.sub(_link, markdown)


def _link(match: re.Match) -> str:
    """Returns a link within the site, or only its text if the target has no page."""
    text, target, anchor = match[1], posixpath.normpath(match[2]), match[3] or ""
    if not target.startswith("../"):
        return match[0]
    return f"[{text}]({_PAGES[target]}{anchor})" if target in _PAGES else text


def _describe(command: str) -> str:
    """Returns a section with the command's docstring and flags, as printed by --help."""
    program = [sys.executable, "-m", "gesture_jax", command, "--help"]
    output = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    # The line between them names the module's file, a path on this machine.
    doc, flags = re.split(r"\nflags:\n\s*\S+:\n", output)
    return f"## {command}\n\n```text\n{doc}\n{flags.rstrip()}\n```"
