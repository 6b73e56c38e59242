"""Builds the app without Android's SDK: stemforge.apk, signed with a key for development.

    python -m mobile.android.apk

Needs a JDK (17 or later) and Maven, which fetches from Maven Central what
gradle/libs.versions.toml names, and Debian's packages aapt, apksigner, zipalign and
android-framework-res. The models are those of `python -m mobile.android.assets`.
"""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from mobile.android.assets import ASSETS, LIST
from stemforge.errors import UserError
from stemforge.pipelines.console import run_main, say
from stemforge.unfinished import finishing, remove

HERE = Path(__file__).parent
MAIN = HERE / "src" / "main"
PORT = HERE.parent / "java" / "stemforge"
BUILD = HERE / "build"
# Debian has the resources of Android 10, and its aapt cannot read those of Android 15. The app
# names none that came later; its classes are compiled against Android 15.
FRAMEWORK = Path("/usr/share/android-framework-res/framework-res.apk")
TOOLS = {
    "java": "a JDK", "javac": "a JDK", "keytool": "a JDK", "mvn": "maven",
    "aapt": "aapt", "zipalign": "zipalign", "apksigner": "apksigner",
}  # fmt: skip
PLATFORMS = ("android-arm64", "android-x86_64")
LITERT = ("litert", "javacpp")
ANDROID = "{http://schemas.android.com/apk/res/android}"
STORED = (".arsc", ".tflite")  # Android 11 on maps the first, and the app the second
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same input gives the same bytes
NOTICES = ("Picked up ", "WARNING: ")  # of Java itself
COPYING = {"groupId": "org.apache.maven.plugins", "artifactId": "maven-dependency-plugin",
           "version": "2.8"}  # fmt: skip
KEY = {"--ks-pass": "pass:android", "--ks-key-alias": "debug"}  # as Android Studio's own


def main() -> None:
    """Builds it."""
    check_tools()
    if not (ASSETS / LIST).is_file():
        raise UserError(f"{ASSETS}: no models: first python -m mobile.android.assets")
    apk = build(BUILD, ASSETS)
    say(f"{apk}: {apk.stat().st_size / 1e6:.0f} MB: adb install {apk}")


def build(folder: Path, assets: Path) -> Path:
    """Builds and signs the app.

    Args:
        folder: for jars, classes and the app; made where it is missing.
        assets: what `mobile.android.assets` writes.

    Returns:
        stemforge.apk in it.

    Raises:
        UserError: a step failed.
    """
    folder.mkdir(exist_ok=True)
    about = properties()
    resources, generated = pack_resources(folder, assets, about)
    jars = fetch(folder / "jars", ["r8", "android-all", *LITERT], PLATFORMS)
    libraries = [jar for jar in jars if jar.name.startswith(("tensorflow-lite-", "javacpp-"))]
    plain = [jar for jar in libraries if not any(name in jar.name for name in PLATFORMS)]
    (framework,) = (jar for jar in jars if jar.name.startswith("android-all-"))
    (r8,) = (jar for jar in jars if jar.name.startswith("r8-"))
    classes = folder / "classes"
    compile_java(app_sources(generated), classes, [framework, *plain])
    dex = fresh(folder / "dex")
    jar = folder / "classes.jar"
    write_zip(jar, files_of(classes))
    run("D8", "java", "-cp", r8, "com.android.tools.r8.D8", "--release",
        "--min-api", about["appMinSdk"], "--lib", framework, "--output", dex,
        jar, *plain)  # fmt: skip
    unsigned = folder / "unsigned.apk"
    write_zip(unsigned, {**entries(resources), **files_of(dex), **native_code(libraries)})
    return sign(unsigned, folder)


def properties() -> dict[str, str]:
    """What gradle.properties says of the app."""
    lines = (HERE / "gradle.properties").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("=", 1) for line in lines if line and not line.startswith("#")]
    return {name: value for name, value in pairs}


def check_tools() -> None:
    """Looks for the programs.

    Raises:
        UserError: one is missing.
    """
    for program, package in TOOLS.items():
        if shutil.which(program) is None:
            raise UserError(f"{program}: not found on PATH: install {package}")
    if not FRAMEWORK.is_file():
        raise UserError(f"{FRAMEWORK}: not found: install Debian's package android-framework-res")


def fetch(folder: Path, names: Sequence[str], classifiers: Iterable[str] = ()) -> list[Path]:
    """Jars from Maven Central, fetched the first time, with all that they need.

    Args:
        folder: for them.
        names: of gradle/libs.versions.toml's libraries.
        classifiers: of LiteRT's native code.

    Raises:
        UserError: one cannot be fetched.
    """
    wanted = [_library(name) for name in names]
    wanted += [{**_library(name), "classifier": kind} for kind in classifiers for name in LITERT]
    pom = _pom(wanted)
    listing = folder / "pom.xml"
    there = listing.is_file() and listing.read_text(encoding="utf-8") == pom
    if not there or not all((folder / _jar(library)).is_file() for library in wanted):
        say("android: fetching jars")
        with finishing(folder) as new:
            new.mkdir()
            (new / "pom.xml").write_text(pom, encoding="utf-8")
            run("Maven", "mvn", "-q", "-B", "-f", new / "pom.xml",
                "dependency:copy-dependencies", f"-DoutputDirectory={new.resolve()}")  # fmt: skip
            remove(folder)  # the versions of before
    return sorted(folder.glob("*.jar"))


def _library(name: str) -> dict[str, str]:
    """Maven's coordinates of one of gradle/libs.versions.toml's libraries."""
    catalogue = tomllib.loads((HERE / "gradle" / "libs.versions.toml").read_text(encoding="utf-8"))
    library = catalogue["libraries"][name]
    group, artifact = library["module"].split(":")
    version = catalogue["versions"][library["version"]["ref"]]
    return {"groupId": group, "artifactId": artifact, "version": version}


def _jar(library: Mapping[str, str]) -> str:
    """What Maven calls the file."""
    parts = [library[part] for part in ("artifactId", "version", "classifier") if part in library]
    return f"{'-'.join(parts)}.jar"


def _pom(libraries: Iterable[Mapping[str, str]]) -> str:
    """A project that needs them."""
    project = ElementTree.Element("project", xmlns="http://maven.apache.org/POM/4.0.0")
    about = {"modelVersion": "4.0.0", "groupId": "stemforge", "artifactId": "app", "version": "1"}
    _add(project, {**about, "packaging": "pom"})
    listed = ElementTree.SubElement(project, "dependencies")
    for library in libraries:
        _add(ElementTree.SubElement(listed, "dependency"), library)
    plugins = ElementTree.SubElement(ElementTree.SubElement(project, "build"), "plugins")
    _add(ElementTree.SubElement(plugins, "plugin"), COPYING)
    ElementTree.indent(project)
    return ElementTree.tostring(project, encoding="unicode") + "\n"


def _add(element: ElementTree.Element, texts: Mapping[str, str]) -> None:
    for tag, text in texts.items():
        ElementTree.SubElement(element, tag).text = text


def pack_resources(folder: Path, assets: Path, about: Mapping[str, str]) -> tuple[Path, Path]:
    """Compiles the manifest and the resources, and packs them with the assets.

    Returns:
        The archive, and the folder of the generated R.java.

    Raises:
        UserError: aapt found a mistake.
    """
    manifest = folder / "AndroidManifest.xml"
    manifest.write_text(_manifest(about), encoding="utf-8")
    generated = fresh(folder / "generated")
    archive = folder / "resources.apk"
    run("aapt", "aapt", "package", "-f", "-m", "-J", generated, "-M", manifest,
        "-S", MAIN / "res", "-A", assets, "-0", ".tflite", "-I", FRAMEWORK, "-F", archive,
        "--min-sdk-version", about["appMinSdk"],
        "--target-sdk-version", about["appTargetSdk"])  # fmt: skip
    return archive, generated


def _manifest(about: Mapping[str, str]) -> str:
    """The manifest with what Gradle would add to it."""
    ElementTree.register_namespace("android", ANDROID.strip("{}"))
    root = ElementTree.parse(MAIN / "AndroidManifest.xml").getroot()
    root.set("package", about["appId"])
    root.set(f"{ANDROID}versionCode", about["appVersionCode"])
    root.set(f"{ANDROID}versionName", about["appVersionName"])
    return ElementTree.tostring(root, encoding="unicode")


def app_sources(generated: Path) -> list[Path]:
    """All of the app's Java: its own, R.java, and the port of the signal processing."""
    return sorted(
        [*(MAIN / "java").rglob("*.java"), *generated.rglob("*.java"), *PORT.glob("*.java")]
    )


def compile_java(sources: Sequence[Path], output: Path, path: Sequence[Path]) -> None:
    """Compiles Java 8, without a warning.

    Args:
        sources: the files.
        output: folder for the classes; emptied before.
        path: jars and folders of classes.

    Raises:
        UserError: the compiler's message.
    """
    fresh(output)
    joined = os.pathsep.join(map(str, path))
    run("javac", "javac", "--release", "8", "-Xlint:all,-options,-classfile,-path,-processing",
        "-Werror", "-d", output, "-cp", joined, *sources)  # fmt: skip


def native_code(jars: Iterable[Path]) -> dict[str, bytes]:
    """The shared libraries of the jars, as lib/ABI/NAME.so."""
    return {
        name: data
        for jar in jars
        for name, data in entries(jar).items()
        if name.startswith("lib/") and name.endswith(".so")
    }


def sign(unsigned: Path, folder: Path) -> Path:
    """Aligns the app, signs it and verifies that.

    Args:
        unsigned: the app.
        folder: for the key, which is made the first time, and the signed app.

    Raises:
        UserError: one of the tools failed.
    """
    key = folder / "debug.keystore"
    if not key.is_file():
        with finishing(key) as new:
            run("keytool", "keytool", "-genkeypair", "-keystore", new, "-alias", "debug",
                "-storepass", "android", "-keyalg", "RSA", "-keysize", "2048",
                "-validity", "10000", "-dname", "CN=Android Debug")  # fmt: skip
    apk = folder / "stemforge.apk"
    with finishing(apk) as new:
        run("zipalign", "zipalign", "-f", "4", unsigned, new)
        flags = [word for pair in KEY.items() for word in pair]
        run("apksigner", "apksigner", "sign", "--ks", key, *flags,
            "--v4-signing-enabled", "false", new)  # fmt: skip
        run("apksigner", "apksigner", "verify", new)
    return apk


def entries(archive: Path) -> dict[str, bytes]:
    """Names and contents of a zip file."""
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist() if not name.endswith("/")}


def files_of(folder: Path) -> dict[str, bytes]:
    """Names and contents of a folder's files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def write_zip(path: Path, files: Mapping[str, bytes]) -> None:
    """Writes a zip file; its bytes depend on names and contents alone."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in sorted(files.items()):
            how = zipfile.ZIP_STORED if name.endswith(STORED) else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name, EPOCH), data, compress_type=how)


def fresh(folder: Path) -> Path:
    """An empty folder in the place of what was there."""
    remove(folder)
    folder.mkdir()
    return folder


def run(what: str, *command: object) -> None:
    """Runs a program.

    Raises:
        UserError: it failed; with the first line that it says.
    """
    words = [str(word) for word in command]
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        lines = [line for line in lines if not line.startswith(NOTICES)] or lines
        raise UserError(f"{what}: {lines[0] if lines else f'exit code {done.returncode}'}")


if __name__ == "__main__":
    sys.exit(run_main(main))
