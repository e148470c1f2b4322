"""The command line; what it prints is tested with each kind of model."""

import subprocess
import sys


def test_the_command_line_is_checked_before_torch_is_imported() -> None:
    program = (
        "import sys\nfrom experiments.predict.__main__ import main\n"
        "assert main(['nowhere.ckpt', 'a.png']) == main(['best.ckpt']) == 2\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "else:\n    raise AssertionError\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "python -m experiments.predict" in done.stdout
    assert "there is no checkpoint nowhere.ckpt" in done.stderr
