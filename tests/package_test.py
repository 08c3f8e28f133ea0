#!/usr/bin/python3
"""The Debian package: what it needs, what is in it, and that its program finds its shim. `make bars` installs it (W1)."""

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
        told("dpkg-deb", "-e", str(self.package), str(self.folder / "control"))
        for name in ("postinst", "prerm", "postrm"):
            told("sh", "-n", str(self.folder / "control" / name))


if __name__ == "__main__":
    unittest.main()
