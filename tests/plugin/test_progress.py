"""What is on the screen while runs train: read from a pseudo-terminal, or from a pipe."""

import os
import re
import subprocess
import sys

import pytest
from projects import OWN

VARIANTS = 'Variant("no_bias", use_bias=False), Variant("heavy", momentum=0.5)'


@pytest.mark.parametrize("workers", [[], ["--ablation-jobs=1"], ["-n", "2"]])
def test_without_a_terminal_there_is_a_plain_line_per_run(project, workers):
    project.write_study(VARIANTS)
    result = project.run("-m", "quick", *workers, jobs=None)
    lines = [line for line in result.outlines if re.match(r"ablation \d+/9 ", line)]
    assert "\x1b" not in result.stdout.str()
    assert len(lines) == 9
    pattern = r"ablation \d+/9 softmax \w+ seed \d epoch 2/2 loss [\d.e-]+, \d+\.\d s"
    assert all(re.fullmatch(pattern, line) for line in lines), lines


def test_pytests_own_lines_stay_whole(project):
    project.write_study(VARIANTS)
    result = project.run("-m", "quick")
    dots = [line for line in result.outlines if line.startswith("test_softmax.py")]
    assert "".join(line.split("[")[0].split()[-1] for line in dots if "." in line[15:]) == ".."
    assert "[100%]" in dots[-1]


def test_output_of_a_test_that_is_not_captured_starts_on_its_own_line(project):
    project.write_study('Variant("heavy", momentum=0.5)', test='ablation.run(); print("MINE")')
    result = project.run("-m", "quick", "-s")
    assert result.outlines.count("MINE") == 1


def test_a_terminal_shows_a_bar_that_is_gone_when_pytest_writes(project):
    pty = pytest.importorskip("pty")
    project.write_study(VARIANTS)
    study = project.path / "test_softmax.py"
    study.write_text(study.read_text().replace('"softmax",', f'"a-study-{"x" * 40}",'))
    code = project.path / "softmax.py"
    code.write_text(
        "import time\n" + code.read_text().replace("losses = []", "losses = []; time.sleep(0.2)")
    )
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "pytest", *OWN, "-m", "quick"]
    command += ["--ablation-jobs=1", "--ablation-seeds=1"]
    process = subprocess.Popen(command, cwd=project.path, stdout=child, stderr=child,
                               env={**os.environ, "TERM": "xterm"})  # fmt: skip
    os.close(child)
    output = b""
    while True:
        try:
            chunk = os.read(parent, 65536)
        except OSError:  # Linux reports the closed end this way
            break
        if not chunk:
            break
        output += chunk
    assert process.wait() == 0
    text = output.decode()
    bars = re.findall(
        r"\r\x1b\[2K(ablation \d/3 \[[#.]{10}\] a-st[\w-]*\.\. \w+ seed \d[^\r\x1b]*)", text
    )
    assert len(bars) >= 3
    assert any("epoch 1/2 loss" in bar for bar in bars)
    assert max(map(len, bars)) < 80
    screen = rendered(text)
    assert not any(re.match(r"ablation \d/3", line) for line in screen), screen
    dots = [line for line in screen if line.startswith("test_softmax.py")]
    assert "".join(re.findall(r" (\.+)", " ".join(dots))) == ".."


def rendered(text):
    """The lines of a terminal that understands what the bar uses (CR, LF, CUU, EL 2, colours)."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if token == "\r":
            column = 0
        elif token == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif token == "\x1b[2K":
            lines[row] = ""
        elif re.fullmatch(r"\x1b\[\d*A", token):
            row = max(0, row - int(token[2:-1] or 1))
        elif not token.startswith("\x1b"):
            old = lines[row].ljust(column)
            lines[row] = old[:column] + token + old[column + len(token) :]
            column += len(token)
    return lines
