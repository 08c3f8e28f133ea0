#!/usr/bin/python3
"""The Debian package: what it needs, what is in it, and that its program finds its shim. `make bars` installs it (W1)."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path(sys.argv.pop(1))


def told(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="stargate-package-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        told("cpack", "--config", str(BUILD / "CPackConfig.cmake"), "-B", str(cls.folder), "-D", f"CPACK_OUTPUT_FILE_PREFIX={cls.folder}")
        [cls.package] = cls.folder.glob("stargate_*.deb")
        told("dpkg-deb", "-x", str(cls.package), str(cls.folder / "root"))
        told("dpkg-deb", "-e", str(cls.package), str(cls.folder / "control"))

    def test_it_needs_next_to_nothing(self):
        needs = told("dpkg-deb", "-f", str(self.package), "Depends")
        self.assertEqual(sorted(each.split()[0] for each in needs.split(", ")), ["libc6", "passwd"])

    def test_what_users_and_systemd_look_for_is_there(self):
        root = self.folder / "root" / "usr"
        for path in ("bin/stargate", "lib/stargate/stargate-shim", "lib/systemd/system/stargate.service",
                     "lib/python3/dist-packages/stargate/client.py", "share/doc/stargate/docs/cli.md", "share/doc/stargate/copyright",
                     "share/doc/stargate/examples/tiny-gpt/train.yaml"):
            self.assertTrue((root / path).is_file(), path)
        strays = [path for path in root.rglob("*") if "__pycache__" in path.parts or path.suffix == ".pyc"]
        self.assertEqual(strays, [])

    def test_the_program_runs_from_where_it_lies(self):
        program = self.folder / "root" / "usr" / "bin" / "stargate"
        self.assertIn("stargate", told(str(program), "--help"))
        self.assertEqual(program.resolve().parent, (self.folder / "root" / "usr" / "lib" / "stargate").resolve())

    def test_what_runs_at_installation_is_a_shell_script_without_errors(self):
        for name in ("postinst", "prerm", "postrm"):
            told("sh", "-n", str(self.folder / "control" / name))

    def run_script(self, name, *arguments):
        """With a `systemctl` and a `stargate` that fail and say how they were called."""
        programs = self.folder / "programs"
        programs.mkdir(exist_ok=True)
        for program in ("systemctl", "stargate"):
            (programs / program).write_text(f"#!/bin/sh\necho {program} $*\nexit 1\n")
            (programs / program).chmod(0o755)
        done = subprocess.run(["sh", str(self.folder / "control" / name), *arguments], capture_output=True, text=True, check=True,
                              env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"})
        return done.stdout

    def test_removing_it_ends_work_and_leaves_no_link_to_its_unit(self):
        said = self.run_script("prerm", "remove").splitlines()
        self.assertEqual(said[:2], ["stargate: ending what runs, each job within its grace", "stargate down --jobs"])
        self.assertEqual(said[-1], "systemctl disable stargate.service")
        self.assertEqual(self.run_script("prerm", "upgrade"), "")

    def test_purging_it_says_what_stays(self):
        said = self.run_script("postrm", "purge")
        for word in ("/var/lib/stargate stays", "stargate-job", "userdel"):
            self.assertIn(word, said)
        self.assertNotIn("stays", self.run_script("postrm", "remove"))

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not there")
    def test_systemd_finds_nothing_wrong_with_the_unit(self):
        root = self.folder / "root" / "usr"
        unit = self.folder / "stargate.service"
        text = (root / "lib" / "systemd" / "system" / "stargate.service").read_text()
        unit.write_text(text.replace("/usr/bin/stargate", str(root / "bin" / "stargate")))
        done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
