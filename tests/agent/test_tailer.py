"""Progress lines, and which bytes leave when."""

import pytest

from roost.agent.tailer import LINE_BYTES_MAX, ProgressReader, Tailer
from roost.core.records import PROGRESS_UNIT
from roost.wire.link import OUTPUT_WINDOW_BYTES, Output

UNIT = PROGRESS_UNIT


@pytest.mark.parametrize(
    ("text", "progress"),
    [
        ("PROGRESS: 1/4\n", UNIT // 4),
        ("PROGRESS: 1/4 \r\n", UNIT // 4),
        ("PROGRESS:1/4\n", UNIT // 4),
        ("\rPROGRESS: 1/4\r", UNIT // 4),
        ("PROGRESS: 0/4\n", 0),
        ("PROGRESS: 1/0\n", 0),
        ("PROGRESS: 0/0\n", 0),
        ("PROGRESS: 9/4\n", UNIT),
        ("PROGRESS: -1/4\n", 0),
        (" PROGRESS: 1/4\n", 0),
        ("PROGRESS: 3/4\nPROGRESS: 1/4\n", 3 * UNIT // 4),
        ("ALF_PROGRESS 25%\n", UNIT // 4),
        ("[12:00:01] ALF_PROGRESS 25%\n", UNIT // 4),
        ("ALF_PROGRESS 250%\n", UNIT),
        ("ALF_PROGRESS %\n", 0),
        ("no line end: PROGRESS: 1/4", 0),
        ("x" * 3 * LINE_BYTES_MAX + "\nPROGRESS: 1/2\n", UNIT // 2),
        ("\x00\xff\nPROGRESS: 1/2\n\x00", UNIT // 2),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 10_000_000])
def test_progress_lines_whole_and_in_pieces(text, progress, size):
    reader = ProgressReader()
    data = text.encode("latin-1")
    for at in range(0, len(data), size):
        reader.read(data[at : at + size])
    assert reader.progress == progress


def test_last_line_counts_without_its_end():
    reader = ProgressReader()
    reader.read(b"PROGRESS: 1/1")
    assert reader.progress == 0
    reader.read(b"0", last=True)
    assert reader.progress == UNIT // 10


class NoChannel:
    may_send = False

    def reset(self):
        pass


@pytest.fixture
def tailer():
    tailer = Tailer(NoChannel())
    yield tailer
    tailer.close()


def test_bytes_leave_once_in_order_and_the_end_is_told(tailer, tmp_path):
    file = tmp_path / "1.1"
    tailer.follow((1, 1), str(file))
    file.write_bytes(b"one ")
    assert tailer.pull(100) == ([], []), "nobody said that it was written to"
    tailer.written(["1.1", "stranger"])
    assert tailer.pull(100) == ([Output(1, 1, 0, b"one ")], [])
    with file.open("ab") as more:
        more.write(b"PROGRESS: 1/2")
    tailer.drain((1, 1))
    assert tailer.pull(6) == ([Output(1, 1, 4, b"PROGRE")], [])
    outputs, drained = tailer.pull(100)
    assert outputs == [Output(1, 1, 10, b"SS: 1/2")]
    assert drained == [((1, 1), 0)]
    tailer.forget((1, 1))
    assert file.read_bytes() == b"", "it is empty for the next attempt"


def test_drained_without_a_file(tailer, tmp_path):
    tailer.follow((1, 1), str(tmp_path / "none"))
    tailer.drain((1, 1))
    assert tailer.pull(100) == ([], [((1, 1), 0)])


def test_window_closes_and_opens(tailer, tmp_path):
    file = tmp_path / "1.1"
    file.write_bytes(bytes(OUTPUT_WINDOW_BYTES + 10))
    tailer.follow((1, 1), str(file))
    tailer.look()
    sent = 0
    while outputs := tailer.pull(1 << 30)[0]:
        sent += sum(len(output.data) for output in outputs)
    assert sent == OUTPUT_WINDOW_BYTES
    tailer.acknowledge((1, 1), 4)
    [output] = tailer.pull(1 << 30)[0]
    assert (output.offset, len(output.data)) == (OUTPUT_WINDOW_BYTES, 4)
    tailer.acknowledge((1, 1), 4)
    assert tailer.pull(1 << 30) == ([], [])


def test_everybody_gets_a_turn(tailer, tmp_path):
    for job in (1, 2):
        (tmp_path / f"{job}.1").write_bytes(b"x" * 20)
        tailer.follow((job, 1), str(tmp_path / f"{job}.1"))
    tailer.look()
    jobs = [tailer.pull(10)[0][0].job for _ in range(4)]
    assert jobs == [1, 2, 1, 2]


def test_rewind_goes_on_from_what_the_server_has(tailer, tmp_path):
    file = tmp_path / "1.1"
    file.write_bytes(b"PROGRESS: 1/2\n")
    tailer.follow((1, 1), str(file))
    tailer.look()
    tailer.pull(100)
    assert tailer.progressed() == [((1, 1), UNIT // 2)]
    tailer.rewind({(1, 1): 10})
    assert tailer.pull(100)[0] == [Output(1, 1, 10, b"1/2\n")]
    assert tailer.progressed() == []
    tailer.rewind({(1, 1): 10_000})
    tailer.drain((1, 1))
    assert tailer.pull(100) == ([], [((1, 1), UNIT // 2)])
