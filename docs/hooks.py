"""What MkDocs asks while it builds: links out of docs/, and the flags of each command."""

import posixpath
import re
import subprocess
import sys

from gesture_jax.__main__ import COMMANDS

# Pages that stand for files outside docs/.
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
    """Comes after the plugins, so that what they include is there."""
    if "@commands@" in markdown:
        markdown = markdown.replace("@commands@", "\n\n".join(map(_describe, COMMANDS)))
    return _LINK.sub(_link, markdown)


def _link(match: re.Match) -> str:
    """A link within the site; where it would leave docs/ for a file without a page, its text."""
    text, target, anchor = match[1], posixpath.normpath(match[2]), match[3] or ""
    if not target.startswith("../"):
        return match[0]
    return f"[{text}]({_PAGES[target]}{anchor})" if target in _PAGES else text


def _describe(command: str) -> str:
    """A section with the command's docstring and flags, as --help has them."""
    asked = [sys.executable, "-m", "gesture_jax", command, "--help"]
    told = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    # Between them the file is named, by a path of this machine.
    doc, flags = re.split(r"\nflags:\n\s*\S+:\n", told)
    return f"## {command}\n\n```text\n{doc}\n{flags.rstrip()}\n```"
