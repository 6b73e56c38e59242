"""The commit of the checkout: a release names it."""

import os
import subprocess
from pathlib import Path
from typing import Any

from stemforge.errors import UserError


def head_commit() -> str:
    """The commit that is checked out.

    Raises:
        UserError: there is none, or git does not say it.
    """
    return _git("rev-parse", "--verify", "HEAD").strip()


def git_state() -> dict[str, Any]:
    """The commit, and the files that differ from it (untracked ones too, ignored ones not).

    Raises:
        UserError: there is no commit, or git does not say it.
    """
    commit = head_commit()
    changed = [line[3:] for line in _git("status", "--porcelain").splitlines()]
    return {"commit": commit, "clean": not changed, "changed": changed}


def _git(*arguments: str) -> str:
    """What a git command prints.

    Raises:
        UserError: it fails.
    """
    here = Path.cwd()
    try:
        done = subprocess.run(
            ["git", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"LC_ALL": "C"},  # the words below are English
        )
    except FileNotFoundError:
        raise UserError("git: not installed: a release names its commit: install git") from None
    if not done.returncode:
        return done.stdout
    why = done.stderr.strip()
    if "not a git repository" in why:
        what = "not a git repository: run `git init`, and commit"
    elif "dubious ownership" in why:
        what = (
            "git refuses another user's repository: run `git config --global --add "
            f"safe.directory {here}`"
        )
    elif "Needed a single revision" in why:
        what = "the git repository has no commit: commit"
    else:
        what = f"git {arguments[0]}: {why}"
    raise UserError(f"{here}: {what}: a release names its commit")
