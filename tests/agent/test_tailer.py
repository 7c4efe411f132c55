"""Progress lines, and which bytes leave when."""

import contextlib
import os
import resource

import pytest

from roost.agent.channel import STRETCH_BYTES_MAX
from roost.agent.tailer import LINE_BYTES_MAX, LOOK_BYTES, ProgressReader, Tailer
from roost.core.records import PROGRESS_UNIT
from roost.wire.link import OUTPUT_CHUNK_BYTES_MAX, OUTPUT_WINDOW_BYTES, Output, OutputAhead

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


def test_a_line_cut_by_what_is_passed_over_does_not_count():
    reader = ProgressReader()
    reader.read(b"\nPROGRESS: 1/")
    reader.pass_over()
    reader.read(b"1\nPROGRESS: 1/4\n")
    assert reader.progress == UNIT // 4
    reader.pass_over()
    reader.read(b"PROGRESS: 3/4 is how a line ends that began earlier\n")
    assert reader.progress == UNIT // 4


class FakeChannel:
    """Takes what it is given and sends nothing."""

    def __init__(self, room=0):
        self.room = room
        self.taken = []

    @property
    def may_send(self):
        return self.room > 0

    def send(self, key, file, offset, size):
        self.room -= 1
        self.taken.append((offset, os.pread(file, size, offset)))
        return OutputAhead(7, *key, offset, size)

    def answered(self, *, whole):
        self.room += 1

    def reset(self):
        self.taken.clear()


@pytest.fixture
def channel():
    return FakeChannel()


@pytest.fixture
def tailer(channel):
    tailer = Tailer(channel)
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


# --- beside the link --------------------------------------------------------------------------

KEY = (1, 1)
CHUNK, WINDOW = OUTPUT_CHUNK_BYTES_MAX, OUTPUT_WINDOW_BYTES
FLOOD = CHUNK + STRETCH_BYTES_MAX + 1_000_000


@pytest.fixture
def flood(tailer, channel, tmp_path):
    """An attempt that has printed much, of which the link took the first piece."""
    file = tmp_path / "1.1"
    file.write_bytes(os.urandom(FLOOD - 15) + b"\nPROGRESS: 1/2\n")
    tailer.follow(KEY, str(file))
    tailer.look()
    channel.room = 2
    [first] = tailer.pull(1 << 30)[0]
    assert first == Output(1, 1, 0, file.read_bytes()[:CHUNK]), "one piece tells of no flood"
    return file


def everything(tailer):
    pulled = []
    while outputs := tailer.pull(1 << 30)[0]:
        pulled += outputs
    return pulled


def test_a_flood_leaves_beside_the_link_in_stretches(tailer, channel, flood):
    assert everything(tailer) == [
        OutputAhead(7, 1, 1, CHUNK, STRETCH_BYTES_MAX),
        OutputAhead(7, 1, 1, CHUNK + STRETCH_BYTES_MAX, 1_000_000),
    ]
    assert b"".join(data for _, data in channel.taken) == flood.read_bytes()[CHUNK:]
    assert tailer.progressed() == [(KEY, UNIT // 2)]


def test_without_a_channel_a_flood_takes_the_link(tailer, channel, flood):
    channel.room = 0
    assert {type(output) for output in everything(tailer)} == {Output}


def test_little_takes_the_link_though_there_is_a_channel(tailer, channel, tmp_path):
    channel.room = 2
    (tmp_path / "1.1").write_bytes(b"x" * CHUNK + b"and little more")
    tailer.follow(KEY, str(tmp_path / "1.1"))
    tailer.look()
    assert [type(output) for output in everything(tailer)] == [Output, Output]
    assert channel.taken == []


def test_nothing_overtakes_a_stretch_on_the_link(tailer, channel, flood):
    channel.room = 1
    assert len(everything(tailer)) == 1
    tailer.look()
    assert everything(tailer) == [], "there is no room, and the link would be faster"
    tailer.answer(KEY, CHUNK + STRETCH_BYTES_MAX)
    assert everything(tailer) == [OutputAhead(7, 1, 1, CHUNK + STRETCH_BYTES_MAX, 1_000_000)]
    with flood.open("ab") as more:
        more.write(b"the end")
    tailer.written(["1.1"])
    tailer.answer(KEY, FLOOD)
    assert everything(tailer) == [Output(1, 1, FLOOD, b"the end")]


def test_the_end_waits_for_the_answers_to_all_stretches(tailer, flood):
    tailer.drain(KEY)
    assert len(everything(tailer)) == 2
    tailer.answer(KEY, CHUNK + STRETCH_BYTES_MAX)
    assert tailer.pull(100) == ([], [])
    tailer.answer(KEY, FLOOD)
    assert tailer.pull(100) == ([], [(KEY, UNIT // 2)])


def test_after_a_channel_that_ended_early_it_goes_on_from_what_is_stored(tailer, channel, flood):
    everything(tailer)
    stored = CHUNK + 12_345
    tailer.answer(KEY, stored)
    assert everything(tailer) == [], "the second is not answered yet"
    tailer.answer(KEY, stored)
    [again, *_] = everything(tailer)
    assert again == OutputAhead(7, 1, 1, stored, STRETCH_BYTES_MAX)
    assert tailer.progressed() == [(KEY, UNIT // 2)]


def test_while_a_failed_channel_is_left_alone_the_link_carries_what_it_did_not(
    tailer, channel, flood
):
    everything(tailer)
    tailer.acknowledge(KEY, CHUNK)
    stored = CHUNK + 12_345
    channel.room = -2  # and stays without any when both are answered
    tailer.answer(KEY, stored)
    tailer.answer(KEY, stored)
    pulled = everything(tailer)
    assert b"".join(output.data for output in pulled) == flood.read_bytes()[stored:][:WINDOW]
    tailer.acknowledge(KEY, stored + WINDOW)
    pulled += everything(tailer)
    assert b"".join(output.data for output in pulled) == flood.read_bytes()[stored:]


def test_a_new_link_knows_nothing_of_stretches_of_the_old_one(tailer, channel, flood):
    everything(tailer)
    tailer.link_down()
    channel.room = 0
    tailer.rewind({KEY: FLOOD - 5})
    tailer.drain(KEY)
    assert tailer.pull(100) == ([Output(1, 1, FLOOD - 5, b" 1/2\n")], [(KEY, UNIT // 2)])


def test_acknowledgements_of_the_link_and_answers_are_counted_apart(tailer, channel, flood):
    everything(tailer)
    tailer.acknowledge(KEY, FLOOD)  # a server that has more than was sent on this link
    tailer.answer(KEY, CHUNK + STRETCH_BYTES_MAX)
    tailer.answer(KEY, FLOOD)
    channel.room = 0
    with flood.open("ab") as more:
        more.write(bytes(OUTPUT_WINDOW_BYTES + 10))
    tailer.look()
    assert sum(len(output.data) for output in everything(tailer)) == OUTPUT_WINDOW_BYTES


# --- progress of what leaves beside the link ---------------------------------------------------

HALF, MOST, ALL = b"\nPROGRESS: 1/2\n", b"\nPROGRESS: 3/4\n", b"\nPROGRESS: 1/1"


def print_at(file, lines, size):
    """An output of so many bytes with these lines in it, by offset."""
    text = bytearray(b"." * size)
    for offset, line in lines.items():
        text[offset : offset + len(line)] = line
    assert len(text) == size
    file.write_bytes(text)


@pytest.fixture
def printed(tailer, channel, tmp_path):
    """To be called: what is pulled of an output of so many bytes with these lines in it."""
    file = tmp_path / "1.1"

    def pulled(lines, size):
        print_at(file, lines, size)
        channel.room = 2
        tailer.follow(KEY, str(file))
        tailer.look()
        return [type(output) for output in everything(tailer)]

    return pulled


def test_of_a_long_stretch_the_end_is_read_for_progress(tailer, printed):
    end = CHUNK + STRETCH_BYTES_MAX
    lines = {CHUNK: MOST, end - LOOK_BYTES: HALF, end + 10: HALF}
    assert printed(lines, end + LOOK_BYTES) == [Output, OutputAhead, OutputAhead]
    assert tailer.progressed() == [(KEY, UNIT // 2)]


def test_of_a_short_stretch_everything_is_read_for_progress(tailer, printed):
    assert printed({CHUNK: HALF}, CHUNK + LOOK_BYTES) == [Output, OutputAhead]
    assert tailer.progressed() == [(KEY, UNIT // 2)]


def test_a_line_on_the_border_of_two_pieces_that_are_read_counts(tailer, channel, printed):
    border = CHUNK + STRETCH_BYTES_MAX
    assert printed({CHUNK - 5: HALF, border - 5: MOST}, border + LOOK_BYTES)
    assert tailer.progressed() == [(KEY, 3 * UNIT // 4)]


def test_the_last_line_of_a_flood_counts_without_its_end(tailer, printed):
    size = CHUNK + STRETCH_BYTES_MAX
    printed({size - len(ALL): ALL}, size)
    tailer.drain(KEY)
    assert tailer.pull(100) == ([], []), "not answered yet"
    tailer.answer(KEY, size)
    assert tailer.pull(100) == ([], [(KEY, UNIT)])


def test_a_file_that_was_cut_ends_no_line(tailer, channel, printed, tmp_path):
    printed({CHUNK - len(ALL): ALL}, CHUNK)
    tailer.drain(KEY)
    tailer._read = lambda *_: b""
    print_at(tmp_path / "1.1", {}, 2 * CHUNK)
    assert everything(tailer) == [OutputAhead(7, 1, 1, CHUNK, CHUNK)]
    assert tailer.progressed() == []


@contextlib.contextmanager
def no_descriptor_left():
    _, hard = limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_output_waits_for_a_descriptor_and_is_not_lost(tailer, tmp_path):
    file = tmp_path / "1.1"
    file.write_bytes(b"output")
    tailer.follow((1, 1), str(file))
    tailer.drain((1, 1))
    with no_descriptor_left():
        assert tailer.pull(100) == ([], [])
    assert tailer.pull(100) == ([Output(1, 1, 0, b"output")], [((1, 1), 0)])


def test_a_flood_waits_for_a_descriptor(tailer, tmp_path, channel):
    file, size = tmp_path / "1.1", OUTPUT_CHUNK_BYTES_MAX + STRETCH_BYTES_MAX
    file.write_bytes(bytes(size))
    tailer.follow((1, 1), str(file))
    tailer.look()
    tailer.pull(1 << 30)
    channel.room = 1
    tailer.link_down()
    tailer.rewind({(1, 1): OUTPUT_CHUNK_BYTES_MAX})
    tailer.close()
    with no_descriptor_left():
        assert tailer.pull(1 << 30) == ([], [])
    assert tailer.pull(1 << 30)[0], "by whichever way"


def test_open_files_of_others_give_way(tailer, tmp_path):
    files = [tmp_path / "1.1", tmp_path / "2.1"]
    for number, file in enumerate(files, 1):
        file.write_bytes(b"output")
        tailer.follow((number, 1), str(file))
    tailer.written(["1.1"])
    assert tailer.pull(100) == ([Output(1, 1, 0, b"output")], [])
    tailer.drain((2, 1))
    with no_descriptor_left():
        assert tailer.pull(100)[0] == [Output(2, 1, 0, b"output")]


def test_an_output_is_cleared_without_a_descriptor(tailer, tmp_path):
    file = tmp_path / "1.1"
    file.write_bytes(b"of the first")
    tailer.follow((1, 1), str(file))
    with no_descriptor_left():
        tailer.forget((1, 1))
    assert not file.exists()


def test_what_could_not_be_cleared_is_before_the_next_attempt(tailer, tmp_path):
    file = tmp_path / "0"
    file.mkdir()  # which neither opens for writing nor unlinks
    tailer.follow((1, 1), str(file))
    tailer.forget((1, 1))
    file.rmdir()
    file.write_bytes(b"of the first")
    tailer.follow((2, 1), str(file))
    assert file.read_bytes() == b""


def test_an_attempt_never_shows_what_cannot_be_cleared(tailer, tmp_path):
    file = tmp_path / "0"
    file.mkdir()
    tailer.follow((1, 1), str(file))
    tailer.forget((1, 1))
    assert not tailer.follow((2, 1), str(file))
    tailer.drain((2, 1))
    assert tailer.pull(100) == ([], [((2, 1), 0)])
