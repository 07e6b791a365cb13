import re

from tfopt.reporting.console import print_decisions


def test_plain_text_is_aligned(log, decisions):
    print_decisions(decisions, stream=log)
    assert log.getvalue().splitlines() == [
        "layer     kind                prune                                quantize",
        "conv1     Conv2D              do: 60% zeros (zero fraction 60.0%)  do: int8",
        "bn        BatchNormalization  skip: has no kernel                  -",
        "prelu[0]  PReLU               -                                    "
        "skip: tfmot does not take [PReLU]",
    ]


def test_a_terminal_gets_a_table(terminal, decisions):
    print_decisions(decisions, stream=terminal)
    text = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    assert re.search(r"│ prelu\[0\] +│ PReLU +│ - +│ skip: tfmot does not take \[PReLU\] +│", text)


def test_no_escapes_reach_a_file(log, decisions):
    print_decisions(decisions, stream=log)
    assert "\x1b" not in log.getvalue()


def test_hostile_names_are_only_text(log, terminal, decisions):
    entry = decisions["prune"][0]
    hostile = type(entry)("a\x1b[2J\nb", "Dense", True, "x\ry")
    for stream in (log, terminal):
        print_decisions({"prune": [hostile]}, stream=stream)
        assert "\x1b[2J" not in stream.getvalue()
        assert "a [2J b" in stream.getvalue()


def test_no_decisions(log):
    print_decisions({"prune": []}, stream=log)
    print_decisions({}, stream=log)
    assert log.getvalue() == "No step decides on any layer.\n" * 2
