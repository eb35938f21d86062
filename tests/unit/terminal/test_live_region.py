"""Lines that are redrawn in place: what is written, and what a terminal shows of it."""

from __future__ import annotations

import random

from processor.terminal.live_region import LineShown, LiveRegion
from tests.support.terminal import FakeTerminal, Screen


class RegionOnScreen:
    """A region and the screen that it is drawn on."""

    def __init__(self, columns: int = 40, rows: int = 12) -> None:
        self.screen = Screen(columns, rows)
        self._stream = FakeTerminal()
        self.region = LiveRegion(self._stream)
        self.writes: list[str] = []

    def draw(self, *texts: str) -> None:
        lines = [LineShown(text[: self.screen.columns - 1], len(text[: self.screen.columns - 1])) for text in texts]
        self.region.draw(lines, self.screen.columns, self.screen.height)
        self._show()

    def print_above(self, text: str) -> None:
        self.region.print_above(text, self.screen.columns, self.screen.height)
        self._show()

    def remove(self) -> None:
        self.region.remove(self.screen.columns, self.screen.height)
        self._show()

    def _show(self) -> None:
        text = self._stream.getvalue()
        self._stream.seek(0)
        self._stream.truncate()
        self.writes.append(text)
        self.screen.feed(text)

    @property
    def lines(self) -> list[str]:
        lines = self.screen.lines
        while lines and not lines[-1]:
            lines.pop()
        return lines


def test_only_changed_lines_are_written_text_first() -> None:
    shown = RegionOnScreen()
    shown.draw("one", "two", "three")
    shown.draw("one", "2", "three")
    assert shown.writes[1] == "\x1b[2A\r2\x1b[K\x1b[2B\r\x1b[K"
    shown.draw("one", "2", "three")
    assert shown.writes[2] == "", "nothing has changed"
    assert shown.lines == ["one", "2", "three"]


def test_number_of_lines_may_change() -> None:
    shown = RegionOnScreen()
    for texts in (["a"], ["a", "b", "c", "d"], ["a", "x"], [], ["e", "f"]):
        shown.draw(*texts)
        assert shown.lines == texts


def test_messages_stand_above_the_lines_and_stay() -> None:
    shown = RegionOnScreen(rows=5)
    shown.print_above("before")
    shown.draw("panel 1", "panel 2")
    for number in range(9):
        shown.print_above(f"message {number} " + "long " * number)
    assert shown.lines[-2:] == ["panel 1", "panel 2"]
    assert [line.split()[1] for line in shown.lines[1:-2]] == [str(number) for number in range(9)]
    shown.remove()
    assert shown.lines[-1].startswith("message 8")


def test_lines_that_are_left_stay_and_new_ones_come_below() -> None:
    shown = RegionOnScreen()
    shown.draw("last state")
    shown.region.leave()
    shown.draw("new")
    assert shown.lines == ["last state", "new"]


def test_what_a_key_has_written_below_is_removed() -> None:
    shown = RegionOnScreen()
    shown.draw("running")
    shown.screen.feed("^C")
    shown.draw("stopping")
    assert shown.lines == ["stopping"]


def test_lines_stand_once_whatever_the_size_becomes() -> None:
    """Sizes, contents and messages at random. Wrapped anew, the region is never higher than the screen."""
    for seed in range(60):
        chance = random.Random(seed)
        shown, messages = RegionOnScreen(), 0
        for _ in range(30):
            action = chance.randrange(4)
            if action == 0:
                shown.screen.resize(chance.randint(20, 60), chance.randint(12, 16))
            elif action == 1:
                shown.print_above(f"message {messages} " + "m" * chance.randrange(60))
                messages += 1
            texts = [f"line {number} " + "p" * chance.randrange(60) for number in range(chance.randint(1, 3))]
            shown.draw(*texts)
            cut = [text[: shown.screen.columns - 1].rstrip() for text in texts]
            assert shown.lines[-len(cut) :] == cut, seed
            said = [line.split()[1] for line in shown.lines[: -len(cut)]]
            assert said == [str(number) for number in range(messages)], seed
