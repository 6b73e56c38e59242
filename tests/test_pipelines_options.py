from pathlib import Path

import pytest

from stemforge.pipelines.commands.main import main

OUT = ("--output", "gs://bucket/out")
COPY = "gs://bucket/out: a URL, where only a path on this machine is supported"


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (("separate", "song.wav", "--model", "models", *OUT), COPY),
        (("separate", "song.wav", "--model", "gs://bucket/out", "--output", "out"), COPY),
        (("export", "models", *OUT), COPY),
        (("import-spleeter", "checkpoint", *OUT), COPY),
        (("convert-spleeter", "checkpoint", *OUT), COPY),
        (("import-config", "config.json", *OUT), COPY),
        (("release", "--name", "a", "--version", "1.0.0", *OUT), COPY),
        (("info", "gs://bucket/out"), COPY),
        (
            ("separate", "song.wav", "--model", "models", "--output", "gs:/bucket/out"),
            "gs:/bucket/out: a URL, where only a path on this machine is supported",
        ),
        (("info", "S3:/bucket/out"), "S3:/bucket/out: a URL"),
        (("info", "C:/music"), "C:/music: no such folder"),
        (
            ("score", "e", "--corpus", "c", "--output", "s", "--oracles", "IRM1,"),
            "--oracles 'IRM1,': an empty name",
        ),
        (
            ("import-spleeter", "c", "--output", "o", "--stems", "a, a", "--activation", "elu"),
            "--stems a, a: a is there twice",
        ),
    ],
)
def test_what_an_option_cannot_be(
    in_tmp: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...], problem: str
) -> None:
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("stemforge: error: ")
    assert problem in line
    assert list(in_tmp.iterdir()) == []
