"""What pip is told of the package index, in uv's words: uv does not read pip's configuration."""

import ast
import os
import subprocess
import sys

# Later sections win, as in `pip install`.
SECTIONS = ("global", "install", ":env:")
FLAGS = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "trusted-host": "--allow-insecure-host",
}
VARIABLES = {
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
}


def pip_settings() -> dict[str, str]:
    """What pip's files and PIP_* variables set for `pip install`, by option."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    settings = {}
    for section in SECTIONS:
        for line in listed.splitlines():
            key, equals, value = line.partition("=")
            if equals and key.startswith(f"{section}."):
                settings[key.removeprefix(f"{section}.")] = str(ast.literal_eval(value))
    return {option: value for option, value in settings.items() if value.strip()}


def uv_flags(settings: dict[str, str]) -> list[str]:
    """The flags that make `uv pip` look where pip looks."""
    flags = []
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on", "y", "t"):
        flags.append("--no-index")
    for option, flag in FLAGS.items():
        for value in settings.get(option, "").split():
            flags += [flag, value]
    if "extra-index-url" in settings:
        # Like pip: any of the indexes may have the file, which its hash decides.
        flags += ["--index-strategy", "unsafe-best-match"]
    return flags


def uv_environment(settings: dict[str, str]) -> dict[str, str]:
    """The environment in which uv trusts, and goes through, what pip does."""
    named = {VARIABLES[option]: settings[option] for option in VARIABLES if option in settings}
    return dict(os.environ) | named
