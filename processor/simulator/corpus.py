"""The sentences of which replies are made, cut into pieces of about one token."""

from __future__ import annotations

import re
from random import Random

_PIECE = re.compile(r"\s*[぀-鿿]{1,2}|\s*[^\s぀-鿿]{1,8}")

_SENTENCES = """\
The short answer is yes, though it depends on what you count.
Most of the time the simple way is also the fast way.
It helps to look at one example before looking at a thousand.
A river does not hurry, and yet everything it carries arrives.
There are three reasons for this, and the second is the one people forget.
First, write down what you know; then cross out what you only hope.
In the long run the cost of waiting is larger than the cost of asking.
The experiment was repeated seven times, with the same result each time.
Bread, salt and a sharp knife: more is not needed for a good evening.
At 20 °C the reaction takes about 4.5 minutes; at 40 °C less than one.
`x = [n for n in numbers if n % 2 == 0]` keeps the even ones.
"That," she said, "is not what the map shows."
Put differently: a limit is a promise that somebody else keeps for you.
See the table below:\n\n| day | share |\n|---|---|\n| Mon | 12 % |\n| Tue | 9 % |\n
The committee met in Zürich, Århus and São Paulo, and agreed on nothing.
Das Gegenteil ist ebenso wahr, nur weniger bequem: Größe schützt vor Irrtum nicht.
Ce n’est pas la vitesse qui compte, mais la façon d’arriver : à l’heure.
Это зависит от того, сколько времени у нас осталось.
雨が降っても、列車は時間どおりに来ます。
答案很简单:先数一数,再说话。
정답은 하나가 아닐 수도 있습니다.
That went well 🎉 and nobody had to stay late 👩‍💻.
Both flags flew that day 🇳🇴🇯🇵, side by side, in a light wind.
"""
SENTENCES = tuple(tuple(_PIECE.findall(" " + line.replace("\\n", "\n"))) for line in _SENTENCES.splitlines())
REFUSAL = tuple(_PIECE.findall("I’m sorry, but I can’t help with that."))
CANNED = ("Of course.",)


def make_sentences(opening: str, length: int, rng: Random) -> list[str]:
    """Pieces of the opening and of whole sentences after it: at least `length` pieces."""
    pieces = _PIECE.findall(opening)
    while len(pieces) < length:
        pieces.extend(rng.choice(SENTENCES))
    return pieces


def chunk_text(text: str, rng: Random) -> list[str]:
    """Cut a text into pieces of 1 to 9 characters, as tool arguments are streamed."""
    pieces, start = [], 0
    while start < len(text):
        end = start + rng.randint(1, 9)
        pieces.append(text[start:end])
        start = end
    return pieces
