"""What is in the archive and in the Debian package, and that the same input makes the same bytes."""

import gzip
import os
import pathlib
import re
import shutil
import subprocess
import tarfile
import tempfile
import unittest
import zlib

PACKAGES = pathlib.Path(os.environ["PACKAGES"])
ROOT = pathlib.Path(__file__).resolve().parents[2]


def only(pattern, folder=PACKAGES / "new"):
    """The one file in the folder with such a name."""
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise AssertionError(f"{folder} has {found} in place of one {pattern}")
    return found[0]


def output(*command, **more):
    """What the command prints. It has to succeed."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    if ended.returncode != 0:
        raise AssertionError(f"{command}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}")
    return ended.stdout


class Package(unittest.TestCase):
    """The Debian package, unpacked."""

    @classmethod
    def setUpClass(cls):
        cls.deb = only("celeriac_*.deb")
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="celeriac-package-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        output("dpkg-deb", "--raw-extract", str(cls.deb), str(cls.folder))
        cls.binary = cls.folder / "usr/bin/celeriac"

    def read(self, path):
        """The text of a file of the package, decompressed."""
        data = (self.folder / path).read_bytes()
        return (gzip.decompress(data) if path.endswith(".gz") else data).decode()

    def test_the_binary_is_ours_without_its_debug_information(self):
        built = output(os.environ["CELERIAC_BINARY"], "--version")
        self.assertEqual(output(str(self.binary), "--version"), built)
        sections = output("objdump", "-h", str(self.binary))
        self.assertNotIn(".debug_info", sections)
        self.assertIn(".gnu_debuglink", sections)

    def test_each_file_belongs_to_root_and_has_its_mode(self):
        lines = output("dpkg-deb", "--contents", str(self.deb)).splitlines()
        self.assertGreater(len(lines), 60)
        for line in lines:
            mode, owner, *_, path = line.split()
            self.assertIn(owner, ("root/root", "0/0"), line)
            is_program = path == "./usr/bin/celeriac" or path.endswith("/")
            self.assertEqual(mode[1:], "rwxr-xr-x" if is_program else "rw-r--r--", line)

    def test_the_units_name_files_of_the_package(self):
        for unit in ("celeriac.service", "celeriac.socket", "celeriac-http.socket"):
            text = self.read(f"usr/lib/systemd/system/{unit}")
            self.assertNotIn("/usr/local", text)
            named = re.findall(r"^(?:ExecStart=|Documentation=file://)(/\S+)", text, re.MULTILINE)
            self.assertTrue(named, unit)
            for path in named:
                self.assertTrue((self.folder / path[1:]).is_file(), f"{unit}: {path}")
        service = self.read("usr/lib/systemd/system/celeriac.service")
        (settings,) = re.findall(r"--config (\S+)", service)
        self.assertEqual(self.read("DEBIAN/conffiles").split(), [settings])
        self.assertTrue((self.folder / settings[1:]).is_file())
        self.assertTrue((self.folder / "usr/share/doc/celeriac/examples/socket.conf").is_file())

    def test_completions_and_manual_pages_are_those_of_the_binary(self):
        for shell, path in (
            ("bash", "usr/share/bash-completion/completions/celeriac"),
            ("zsh", "usr/share/zsh/vendor-completions/_celeriac"),
            ("fish", "usr/share/fish/vendor_completions.d/celeriac.fish"),
        ):
            self.assertEqual(self.read(path), output(str(self.binary), "completions", shell))
        with tempfile.TemporaryDirectory() as pages:
            output(str(self.binary), "manual", pages)
            expected = {path.name: path.read_text() for path in pathlib.Path(pages).iterdir()}
        folder = self.folder / "usr/share/man/man1"
        names = sorted(path.name for path in folder.iterdir())
        self.assertEqual(names, sorted(f"{name}.gz" for name in expected))
        for name, page in expected.items():
            self.assertEqual(self.read(f"usr/share/man/man1/{name}.gz"), page)

    def test_the_licences_of_all_that_is_linked_are_there(self):
        documents = "usr/share/doc/celeriac"
        self.assertIn("Expat or Apache-2.0", self.read(f"{documents}/copyright"))
        licence = (ROOT / "LICENSE-MIT").read_text().split("\n\n", 2)[2]
        words = self.read(f"{documents}/copyright").replace("\n .\n", "\n").split()
        self.assertIn(" ".join(licence.split()), " ".join(words))
        others = self.read(f"{documents}/third-party.gz")
        for crate in ("tokio", "sled", "rustls", "aws-lc-sys", "libmimalloc-sys", "axum"):
            self.assertRegex(others, rf"(?m)^  {crate} \S+: \S")
        self.assertGreater(others.count("=" * 78), 20)

    def test_the_control_file_says_what_the_binary_needs(self):
        fields = dict(re.findall(r"(?m)^([A-Z][\w-]*): (.*)$", self.read("DEBIAN/control")))
        version = output(str(self.binary), "--version").split()[1]
        self.assertEqual(fields["Version"], f"{version}-1")
        self.assertEqual(fields["Architecture"], output("dpkg", "--print-architecture").strip())
        self.assertRegex(fields["Depends"], r"^libc6 \(>= 2\.\d+\)$")
        newest = max(
            tuple(int(part) for part in needed.split("."))
            for needed in re.findall(r"GLIBC_(2\.\d+)", output("objdump", "-T", str(self.binary)))
        )
        promised = re.search(r"2\.\d+", fields["Depends"]).group().split(".")
        self.assertGreaterEqual(tuple(int(part) for part in promised), newest)
        self.assertIn(f"celeriac ({version}-1)", self.read("usr/share/doc/celeriac/changelog.Debian.gz"))

    def test_lintian_finds_no_fault(self):
        if shutil.which("lintian") is None:
            self.skipTest("SKIPPED: lintian is not installed")
        said = subprocess.run(
            ["lintian", "--allow-root", "--fail-on", "error,warning", str(self.deb)],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(said.returncode, 0, said.stdout + said.stderr)


class Archive(unittest.TestCase):
    """The archive, for systems without dpkg."""

    def test_the_archive_has_all_to_install_and_its_sums_are_right(self):
        with tempfile.TemporaryDirectory() as folder:
            archive = only("celeriac-*-linux.tar.gz")
            with tarfile.open(archive) as packed:
                self.assertTrue(all(member.uid == member.gid == 0 for member in packed))
                packed.extractall(folder, filter="data")
            (inside,) = pathlib.Path(folder).iterdir()
            self.assertEqual(f"{inside.name}.tar.gz", archive.name)
            output("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=inside)
            summed = {line.split("  ")[1] for line in (inside / "SHA256SUMS").read_text().splitlines()}
            there = {str(path.relative_to(inside)) for path in inside.rglob("*") if path.is_file()}
            self.assertEqual(summed, there - {"SHA256SUMS"})
            # The manual installs these from the folder in which they lie.
            manual = (inside / "README.md").read_text()
            for name in re.findall(r"(?m)^install .*?-m \d+ ((?:[\w.-]+(?:/[\w.-]+)? )+)/", manual):
                for file in name.split():
                    self.assertIn(file, there)
            for name in ("celeriac.service", "LICENSE-MIT", "man/man1/celeriac-serve.1.gz"):
                self.assertIn(name, there)
            self.assertTrue(output(str(inside / "celeriac"), "--version").startswith("celeriac "))

    def test_the_debug_information_is_that_of_the_binary(self):
        with tempfile.TemporaryDirectory() as folder:
            with tarfile.open(only("celeriac-*-debug.tar.gz")) as packed:
                packed.extractall(folder, filter="data")
            with tarfile.open(only("celeriac-*-linux.tar.gz")) as packed:
                packed.extractall(folder, filter="data")
            (inside,) = pathlib.Path(folder).glob("celeriac-*")
            (debug,) = pathlib.Path(folder).glob("*.debug")
            self.assertEqual(debug.name, "celeriac.debug")
            identities = [
                re.search(r"Build ID: (\w+)", output("readelf", "-n", str(file)))
                for file in (inside / "celeriac", debug)
            ]
            if identities[0] is not None:
                self.assertEqual(identities[0].group(1), identities[1].group(1))
            # The link has the checksum of the file: a debugger takes no other one.
            linked = output("readelf", "--debug-dump=links", str(inside / "celeriac"))
            (crc,) = re.findall(r"CRC value: 0x([0-9a-f]+)", linked)
            self.assertEqual(int(crc, 16), zlib.crc32(debug.read_bytes()))

    def test_the_sums_of_the_files_are_right(self):
        folder = PACKAGES / "new"
        output("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=folder)
        summed = {line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
        self.assertEqual(summed, {path.name for path in folder.iterdir()} - {"SHA256SUMS"})

    def test_the_same_binary_makes_the_same_bytes(self):
        again = PACKAGES / "again"
        environment = {**os.environ, "OUTPUT": str(again)}
        output(str(ROOT / ".ci/dist"), env=environment)
        self.addCleanup(shutil.rmtree, again)
        sums = [(folder / "SHA256SUMS").read_text() for folder in (PACKAGES / "new", again)]
        self.assertEqual(*sums)


if __name__ == "__main__":
    unittest.main()
