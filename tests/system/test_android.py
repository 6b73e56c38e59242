"""The app: what it computes on the JVM, how it behaves in Robolectric's Android, and its package.

No phone and no emulator has run it.
"""

import os
import re
import shutil
import struct
import subprocess
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from mobile.android import apk
from mobile.android.assets import write_assets
from stemforge import Separator, find_models
from stemforge.eval.exports import files as export
from stemforge.eval.exports.parity import KerasNets
from stemforge.eval.exports.vectors import write_vectors
from stemforge.features.audio.files import load_song
from stemforge.pipelines.pretrained.converting import convert
from tests.conftest import CC0_MUSDB, RATE_HZ
from tests.test_exports_files import make
from tests.test_spleeter_checkpoints import GOLDEN, OFFICIAL, needs_official
from tests.test_web import small_models

MISSING = [name for name in apk.TOOLS if shutil.which(name) is None]
pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,  # it fetches 600 MB from Maven Central
    pytest.mark.skipif(
        bool(MISSING) or not apk.FRAMEWORK.is_file(),
        reason=f"needs a JDK, maven, aapt, apksigner, zipalign, android-framework-res: {MISSING}",
    ),
]
TESTS = apk.HERE / "src" / "test" / "java"
CHECKS = apk.HERE.parent / "check"
HOST = "linux-x86_64"
ANDROID = ("android-15", "android-10", "android-9", "android-8")
ASM = ("asm", "asm-commons", "asm-tree", "asm-util", "asm-analysis")
OLDEST = 21  # the Java that Robolectric's Android 15 needs
# Robolectric reaches into the JDK.
JAVA_FLAGS = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in ("io", "lang", "nio")]
LIMIT_S = 600
SKIPPED = 4  # bytes
HEAP = "-Xmx160m"  # whatever the song's length
Stems = Mapping[str, NDArray[np.float32]]


def modern_java() -> str | None:
    """A `java` that is new enough for Robolectric."""
    for path in [shutil.which("java"), *map(str, Path("/usr/lib/jvm").glob("*/bin/java"))]:
        if path is not None:
            said = subprocess.run([path, "-version"], capture_output=True, text=True).stderr
            found = re.search(r'version "(\d+)', said)
            if found and int(found[1]) >= OLDEST:
                return path
    return None


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models: Spleeter's own small nets of four stems, and two of these."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("four", "two"):
        (folder / name).mkdir()
    for path in sorted(small_models(folder / "four").glob("*.tflite"))[:2]:
        shutil.copy(path, folder / "two")
    return folder


@pytest.fixture(scope="module")
def assets(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("assets")
    write_assets(folder, [str(models / "four"), str(models / "two")], tflite="float32")
    return folder


@pytest.fixture(scope="module")
def app(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the app was built in."""
    folder = tmp_path_factory.mktemp("app")
    apk.build(folder, assets)
    return folder


@pytest.fixture(scope="module")
def engine(app: Path) -> list[Path]:
    """The class path of the app's engine on this machine's JVM."""
    host = apk.fetch(app / "jars-host", apk.LITERT, [HOST])
    (framework,) = (app / "jars").glob("android-all-*.jar")
    classes = app / "engine"
    sources = [TESTS / "stemforge" / "app" / "SeparateRaw.java", *CHECKS.rglob("*.java")]
    path = [app / "classes", *host, framework]
    apk.compile_java(sources, classes, path)
    return [classes, *path]


def class_path(path: Sequence[Path]) -> str:
    return os.pathsep.join(map(str, path))


def separate(
    engine: Sequence[Path], assets: Path, song: NDArray[np.float32], rate_hz: int, tmp: Path
) -> Stems:
    """The stems by the app's engine, its models at a multiple of 4, as in a package."""
    packed = tmp / "packed"
    shutil.copytree(assets, packed)
    for path in packed.glob("*.tflite"):
        path.write_bytes(SKIPPED * b"\0" + path.read_bytes())
    song.astype("<f4").tofile(tmp / "song.f32")
    out = tmp / "stems"
    out.mkdir()
    java = ["java", HEAP, "-cp", class_path(engine), "stemforge.app.SeparateRaw"]
    command = [*java, str(packed), str(SKIPPED), str(rate_hz), str(tmp / "song.f32"), str(out)]
    subprocess.run(command, check=True, timeout=LIMIT_S)
    return {path.stem: np.fromfile(path, "<f4").reshape(-1, 2) for path in out.glob("*.f32")}


def test_the_engine_computes_golden_vectors(
    engine: Sequence[Path], tmp_path: Path, random: np.random.Generator
) -> None:
    """A joint model's: what Keras and NumPy compute of the same nets."""
    stems = ("vocals", "rest", "drums")
    joint = make(stems)
    for name in ("joint", "vectors", "assets"):
        (tmp_path / name).mkdir()
    (tmp_path / "joint" / "joint-float32.tflite").write_bytes(export.to_tflite(joint))
    write_assets(tmp_path / "assets", [str(tmp_path / "joint")], tflite="float32")
    song = random.normal(0, 0.2, (3 * RATE_HZ // 2, 2)).astype(np.float32)
    write_vectors(tmp_path / "vectors", song, [KerasNets(joint)])
    found = separate(engine, tmp_path / "assets", song, RATE_HZ, tmp_path)
    assert set(found) == set(stems)
    for stem in stems:
        golden = np.fromfile(tmp_path / "vectors" / f"output_{stem}.f32", "<f4").reshape(-1, 2)
        np.testing.assert_allclose(found[stem], golden, atol=1e-4)


@pytest.mark.parametrize("rate_hz", [44100, 48000, 22050])
def test_the_engine_separates_as_separate_does(
    engine: Sequence[Path],
    assets: Path,
    models: Path,
    rate_hz: int,
    tmp_path: Path,
    random: np.random.Generator,
) -> None:
    """At 44.1 kHz: what `separate` computes before it goes back to the song's rate."""
    from stemforge.eval.separation.streaming import Resampler

    song = random.normal(0, 0.2, (100_000, 2)).astype(np.float32)
    resampler = Resampler(from_hz=rate_hz, to_hz=RATE_HZ, channels=2)
    at_models_rate = np.concatenate([resampler.push(song), resampler.finish()])
    if rate_hz == RATE_HZ:
        at_models_rate = song
    separator = Separator.load(find_models(models / "four", runtime="litert"))
    truth = separator.separate(at_models_rate, sample_rate_hz=RATE_HZ)
    found = separate(engine, assets, song, rate_hz, tmp_path)
    assert set(found) == set(truth) == {"vocals", "drums", "bass", "other"}
    for stem in truth:
        np.testing.assert_allclose(found[stem], truth[stem], atol=1e-5)


def test_the_engine_separates_with_layers_in_int8(
    engine: Sequence[Path], tmp_path: Path, random: np.random.Generator
) -> None:
    for name in ("files", "assets"):
        (tmp_path / name).mkdir()
    files = small_models(tmp_path / "files", int8=True)
    write_assets(tmp_path / "assets", [str(files)], tflite="int8_mixed")
    song = random.normal(0, 0.2, (100_000, 2)).astype(np.float32)
    models = find_models(files, runtime="litert", tflite="int8_mixed")
    truth = Separator.load(models).separate(song, sample_rate_hz=RATE_HZ)
    found = separate(engine, tmp_path / "assets", song, RATE_HZ, tmp_path)
    for stem in truth:
        np.testing.assert_allclose(found[stem], truth[stem], atol=1e-3)


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Deezer's 2stems, as files and as assets."""
    folder, packed = tmp_path_factory.mktemp("official"), tmp_path_factory.mktemp("packed")
    convert(OFFICIAL, "2stems", folder)
    write_assets(packed, [str(folder)], tflite="float32")
    return folder, packed


@needs_official
def test_the_engine_separates_as_spleeter_does(
    engine: Sequence[Path], official: tuple[Path, Path], tmp_path: Path
) -> None:
    golden = np.load(GOLDEN)
    found = separate(engine, official[1], golden["mixture"], RATE_HZ, tmp_path)
    for stem in ("vocals", "accompaniment"):
        assert np.abs(found[stem] - golden[stem]).max() < 5e-5


@needs_official
def test_the_engine_separates_a_whole_song(
    engine: Sequence[Path], official: tuple[Path, Path], tmp_path: Path
) -> None:
    song, rate_hz = load_song(next(iter(sorted((CC0_MUSDB / "test").iterdir()))))
    separator = Separator.load(find_models(official[0], runtime="litert"))
    truth = separator.separate(song, sample_rate_hz=rate_hz)
    found = separate(engine, official[1], song, rate_hz, tmp_path)
    for stem in ("vocals", "accompaniment"):
        np.testing.assert_allclose(found[stem], truth[stem], atol=1e-5)


def test_the_package_is_signed_and_says_what_it_needs(app: Path) -> None:
    signed = app / "stemforge.apk"
    verify = ["apksigner", "verify", "--verbose", "--min-sdk-version", "26", signed]
    said = subprocess.run(list(map(str, verify)), capture_output=True, text=True, check=True).stdout
    assert "Verified using v2 scheme (APK Signature Scheme v2): true" in said
    badging = ["aapt", "dump", "badging", signed]
    said = subprocess.run(
        list(map(str, badging)), capture_output=True, text=True, check=True
    ).stdout
    assert "package: name='stemforge.app' versionCode='1' versionName='0.1.0'" in said
    assert "sdkVersion:'26'" in said
    assert "targetSdkVersion:'35'" in said
    assert "launchable-activity: name='stemforge.app.MainActivity'" in said
    assert "native-code: 'arm64-v8a' 'x86_64'" in said
    asked = set(re.findall(r"^uses-permission: name='android\.permission\.(\w+)'", said, re.M))
    assert asked == {
        "FOREGROUND_SERVICE", "FOREGROUND_SERVICE_DATA_SYNC", "POST_NOTIFICATIONS", "WAKE_LOCK",
        "WRITE_EXTERNAL_STORAGE", "READ_EXTERNAL_STORAGE",  # up to Android 9; the first implies it
    }  # fmt: skip


def test_the_packages_files_can_be_mapped(app: Path) -> None:
    """Models and resources lie in it uncompressed, and native code suits pages of 16 KB."""
    signed = app / "stemforge.apk"
    subprocess.run(["zipalign", "-c", "4", signed], check=True)
    with zipfile.ZipFile(signed) as archive:
        plain = {info.filename for info in archive.infolist() if not info.compress_type}
        assert "resources.arsc" in plain
        models = {name for name in archive.namelist() if name.endswith(".tflite")}
        assert len(models) == 6
        assert models <= plain
        code = [name for name in archive.namelist() if name.endswith(".so")]
        assert len(code) == 4
        for name in code:
            assert min(alignments(archive.read(name))) >= 16384, name


def alignments(elf: bytes) -> list[int]:
    """Of the loaded segments, by the ELF-64 specification."""
    (table,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", elf, table + n * size) for n in range(count)]
    return [header[7] for header in headers if header[0] == 1]


def test_the_same_input_gives_the_same_package(app: Path, assets: Path, tmp_path: Path) -> None:
    shutil.copytree(app / "jars", tmp_path / "jars")
    shutil.copy(app / "debug.keystore", tmp_path)
    again = apk.build(tmp_path, assets)
    assert again.read_bytes() == (app / "stemforge.apk").read_bytes()


def test_the_app_behaves_in_robolectrics_android(
    app: Path, engine: Sequence[Path], assets: Path, models: Path, tmp_path: Path
) -> None:
    """The Java tests of src/test; then the stems that one of them wrote, against `separate`."""
    java = modern_java()
    if java is None:
        pytest.skip(f"no Java {OLDEST} or newer for Robolectric")
    robolectric = apk.fetch(app / "jars-robolectric", ["robolectric", "junit", *ASM])
    (tmp_path / "android").mkdir()
    for name in ANDROID:  # one folder has to hold all of them
        for jar in apk.fetch(tmp_path / name, [name]):
            jar.rename(tmp_path / "android" / jar.name)
    for archive in (app / "jars-robolectric").glob("monitor-*.aar"):
        robolectric.append(app / f"{archive.stem}.jar")
        with zipfile.ZipFile(archive) as opened:
            robolectric[-1].write_bytes(opened.read("classes.jar"))
    classes, out = app / "tests", tmp_path / "out"
    out.mkdir()
    sources = [*TESTS.rglob("*.java"), *CHECKS.rglob("*.java")]
    apk.compile_java(sources, classes, [*engine[1:], *robolectric])
    config = classes / "com" / "android" / "tools" / "test_config.properties"
    config.parent.mkdir(parents=True)
    config.write_text(
        f"android_resource_apk={app}/resources.apk\n"
        f"android_merged_manifest={app}/AndroidManifest.xml\n"
        f"android_merged_assets={assets}\n"
        "android_custom_package=stemforge.app\n"
    )
    names = [f"stemforge.app.{path.stem}" for path in sorted(TESTS.rglob("*Test.java"))]
    done = subprocess.run(
        [
            java, *JAVA_FLAGS, "-Drobolectric.offline=true",
            f"-Drobolectric.dependency.dir={tmp_path / 'android'}", f"-Dstemforge.out={out}",
            "-cp", class_path([classes, app / "classes", *robolectric, *engine[2:]]),
            "org.junit.runner.JUnitCore", *names,
        ],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert re.search(r"^OK \(\d\d tests\)$", done.stdout, re.M)

    integers = np.fromfile(out / "song.s16", "<i2").reshape(-1, 2)
    song = np.divide(integers, 32768, dtype=np.float32)
    separator = Separator.load(find_models(models / "four", runtime="litert"))
    truth = separator.separate(song, sample_rate_hz=RATE_HZ)
    for stem, expected in truth.items():
        found, rate_hz = soundfile.read(out / f"{stem}.wav", dtype="float32")
        assert rate_hz == RATE_HZ
        clipped = np.clip(expected, -1.0, 32767 / 32768)
        np.testing.assert_allclose(found, clipped, atol=0.51 / 32768)
