"""A clean Debian installs, upgrades, removes and purges the package.

The tree is made by mmdebstrap and has nothing but the packages that every Debian has. systemd does
not run in it. Where a test needs to know what would be asked of it, a program in its place writes
that down.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import unittest

PACKAGES = pathlib.Path(os.environ["PACKAGES"])
WANTED = "etc/systemd/system/multi-user.target.wants/celeriac.service"
DATA = "var/lib/private/celeriac"

#: Writes down what it is asked, enables units, and knows which ones are. No unit is active.
SYSTEMCTL = """#!/bin/sh
echo "$*" >>/asked
wants=/etc/systemd/system/multi-user.target.wants
case "$*" in
*" preset celeriac.service")
    mkdir -p $wants && ln -sf /usr/lib/systemd/system/celeriac.service $wants/
    ;;
*is-enabled*) [ -L $wants/celeriac.service ] && echo enabled ;;
*is-active*) exit 3 ;;
esac
"""


def why_not():
    """Why this machine has no clean tree. None: it has one."""
    if os.geteuid() != 0:
        return "only root makes a clean tree of Debian"
    if shutil.which("mmdebstrap") is None or shutil.which("unshare") is None:
        return "mmdebstrap or unshare is not installed"
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        return "this system lets nobody mount"
    release = pathlib.Path("/etc/os-release").read_text()
    if "\nID=debian\n" not in release:
        return "the binary is for this system, which is not Debian"
    return None


def packed_tree():
    """The archive of a clean tree. It is made once."""
    release = pathlib.Path("/etc/os-release").read_text()
    (name,) = (line[17:] for line in release.splitlines() if line.startswith("VERSION_CODENAME="))
    archive = PACKAGES / f"tree-{name}.tar"
    if not archive.exists():
        growing = archive.with_suffix(".partial.tar")
        made = subprocess.run(
            ["mmdebstrap", "--mode=root", "--variant=essential", name, str(growing)],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            said = (made.stderr.strip().splitlines() or ["no word"])[-1]
            raise unittest.SkipTest(f"SKIPPED: mmdebstrap made no tree of Debian: {said}")
        growing.rename(archive)
    return archive


class Clean(unittest.TestCase):
    """Each test has a tree of its own."""

    @classmethod
    def setUpClass(cls):
        reason = why_not()
        if reason is not None:
            raise unittest.SkipTest(f"SKIPPED: {reason}")
        cls.archive = packed_tree()

    def setUp(self):
        self.tree = PACKAGES / "tree"
        shutil.rmtree(self.tree, ignore_errors=True)
        self.tree.mkdir()
        subprocess.run(["tar", "-xf", str(self.archive), "-C", str(self.tree)], check=True)
        self.addCleanup(shutil.rmtree, self.tree)
        for version in ("old", "new"):
            (deb,) = (PACKAGES / version).glob("celeriac_*.deb")
            shutil.copy(deb, self.tree / f"{version}.deb")

    def inside(self, *command):
        """The command line of a program of the tree. Its mounts end with it."""
        script = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
        return ["unshare", "--mount", "sh", "-c", script, str(self.tree), *command]

    def run_inside(self, *command):
        """Runs a program of the tree, which has to succeed. Returns what it printed."""
        variables = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}
        ended = subprocess.run(
            self.inside(*command), capture_output=True, text=True, check=False, env=variables
        )
        self.assertEqual(ended.returncode, 0, f"{command}\n{ended.stdout}\n{ended.stderr}")
        return ended.stdout + ended.stderr

    def install(self, version):
        return self.run_inside("dpkg", "--install", f"/{version}.deb")

    def with_systemctl(self):
        """From now on the scripts of packages believe that systemd runs."""
        (self.tree / "run/systemd/system").mkdir(parents=True)
        program = self.tree / "usr/bin/systemctl"
        program.write_text(SYSTEMCTL)
        program.chmod(0o755)

    def asked(self):
        """What systemd was asked to start and to stop since the last look."""
        log = self.tree / "asked"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        words = ("start", "stop", "restart")
        return [
            " ".join(word for word in line.split() if not word.startswith("--"))
            for line in lines
            if any(word in line.split() for word in words)
        ]

    def make_folder_of_systemd(self):
        """The data folder of a dynamic user, as systemd makes it at the first start."""
        for name in ("celeriac", "celeriac-backups"):
            (self.tree / "var/lib/private").mkdir(mode=0o700, exist_ok=True)
            (self.tree / "var/lib/private" / name).mkdir(mode=0o700)
            (self.tree / "var/lib" / name).symlink_to(f"private/{name}")

    @contextlib.contextmanager
    def serving(self):
        """The broker as the unit starts it, but on a free port. Gives the address."""
        unit = (self.tree / "usr/lib/systemd/system/celeriac.service").read_text()
        (line,) = (line for line in unit.splitlines() if line.startswith("ExecStart="))
        command = line.removeprefix("ExecStart=").split()
        variables = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "CELERIAC_DATA": "/var/lib/celeriac",
            "CELERIAC_TOKEN_FILE": "/etc/celeriac/token",
            "CELERIAC_LISTEN": "127.0.0.1:0",
            "CELERIAC_HTTP_LISTEN": "off",
        }
        broker = subprocess.Popen(
            self.inside(*command), env=variables, stdout=subprocess.PIPE, text=True,
            stderr=subprocess.DEVNULL,
        )
        try:
            said = broker.stdout.readline()
            self.assertTrue(said.startswith("celeriac: listening on "), said)
            yield said.split()[-1]
            broker.send_signal(signal.SIGTERM)
            self.assertEqual(broker.wait(60), 0)
        finally:
            broker.kill()
            broker.wait()
            broker.stdout.close()

    def celeriac(self, address, *arguments):
        """Runs a command of the installed program with the token of the package."""
        more = ("--url", f"celeriac://{address}", "--token-file", "/etc/celeriac/token")
        return self.run_inside("celeriac", *arguments, *more)

    def everything(self):
        """Every path of the tree but those in which dpkg and logs keep their own notes."""
        notes = ("var/lib/dpkg", "var/log", "var/cache", "proc", "asked")
        paths = (str(path.relative_to(self.tree)) for path in self.tree.rglob("*"))
        return {path for path in paths if not path.startswith(notes)}


class Packages(Clean):
    """The life of the package."""

    def test_o24_an_upgrade_of_the_package_keeps_tasks_and_settings_and_restarts_once(self):
        self.with_systemctl()
        self.install("old")
        self.assertEqual(self.asked(), ["start celeriac.service"])
        self.assertTrue((self.tree / WANTED).is_symlink())
        token = self.tree / "etc/celeriac/token"
        secret = token.read_text()
        self.assertRegex(secret, r"^[0-9a-f]{64}$")
        self.assertEqual((token.stat().st_mode & 0o777, token.stat().st_uid), (0o600, 0))
        settings = self.tree / "etc/celeriac/celeriac.toml"
        mine = settings.read_text().replace('result_ttl = "1d"', 'result_ttl = "2d"')
        self.assertNotEqual(settings.read_text(), mine)
        settings.write_text(mine)
        self.make_folder_of_systemd()
        with self.serving() as address:
            self.celeriac(address, "submit", "songs.play", "--id", "song-7")
            self.install("new")
            self.assertEqual(self.asked(), ["restart celeriac.service"])
            # Until it is started again the old program serves.
            self.assertIn("song-7", self.celeriac(address, "status", "song-7"))
        with self.serving() as address:
            self.assertIn("song-7", self.celeriac(address, "status", "song-7"))
            self.assertIn("songs.play", self.celeriac(address, "show", "song-7"))
        versions = self.run_inside("dpkg-query", "--show", "celeriac")
        self.assertNotIn("old", versions)
        self.assertEqual((settings.read_text(), token.read_text()), (mine, secret))

    def test_a_removed_package_leaves_its_data_and_a_purged_one_its_backups(self):
        before = self.everything()
        self.with_systemctl()
        self.install("new")
        self.make_folder_of_systemd()
        with self.serving() as address:
            self.celeriac(address, "submit", "songs.play", "--id", "song-7")
            self.celeriac(address, "backup", "/var/lib/celeriac-backups/monday")
        self.asked()
        self.run_inside("dpkg", "--remove", "celeriac")
        stopped = "stop celeriac-http.socket celeriac.socket celeriac.service"
        self.assertEqual(self.asked(), [stopped])
        for gone in ("usr/bin/celeriac", "usr/lib/systemd/system/celeriac.service"):
            self.assertFalse((self.tree / gone).exists(), gone)
        secret = (self.tree / "etc/celeriac/token").read_text()

        # It may come back, with all that it had.
        self.install("new")
        self.assertEqual((self.tree / "etc/celeriac/token").read_text(), secret)
        with self.serving() as address:
            self.assertIn("song-7", self.celeriac(address, "status", "song-7"))
        said = self.run_inside("dpkg", "--purge", "celeriac")
        self.assertIn("the backups in /var/lib/private/celeriac-backups stay", said)
        backup = self.tree / "var/lib/private/celeriac-backups/monday"
        self.assertTrue((backup / "db").is_file())
        shutil.rmtree(backup.parent)
        backup.parent.parent.rmdir()
        left = self.everything() - before
        ours = {path for path in left if not path.startswith(("run/systemd", "usr/bin/systemctl"))}
        self.assertEqual({path for path in ours if "celeriac" in path}, set())

    def test_without_systemd_the_package_comes_and_goes(self):
        before = self.everything()
        for version in ("old", "new"):
            self.install(version)
        self.assertTrue(self.run_inside("celeriac", "--version").startswith("celeriac "))
        self.run_inside("dpkg", "--remove", "celeriac")
        self.assertTrue((self.tree / "etc/celeriac/token").is_file())
        self.run_inside("dpkg", "--purge", "celeriac")
        self.assertEqual({path for path in self.everything() - before if "celeriac" in path}, set())

    def test_a_unit_that_was_disabled_stays_so_and_an_enabled_socket_is_left_alone(self):
        self.with_systemctl()
        self.install("old")
        (self.tree / WANTED).unlink()
        wants = self.tree / "etc/systemd/system/sockets.target.wants"
        wants.mkdir(parents=True)
        (wants / "celeriac.socket").symlink_to("/usr/lib/systemd/system/celeriac.socket")
        self.asked()
        self.install("new")
        self.assertEqual(self.asked(), [])
        self.assertFalse((self.tree / WANTED).is_symlink())
        self.assertTrue((wants / "celeriac.socket").is_symlink())
        self.run_inside("dpkg", "--purge", "celeriac")
        self.assertFalse((wants / "celeriac.socket").is_symlink())

    def test_a_token_that_was_there_before_the_package_stays(self):
        folder = self.tree / "etc/celeriac"
        folder.mkdir()
        (folder / "token").write_text("mine")
        self.install("new")
        self.assertEqual((folder / "token").read_text(), "mine")


if __name__ == "__main__":
    unittest.main()
