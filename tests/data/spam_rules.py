"""Rules as a user writes them, some of them broken."""

from types import SimpleNamespace

from tutelage.data import ABSTAIN, rule

HAM, SPAM = 0, 1


@rule
def subscribe(x):
    """Spam asks to subscribe."""
    return SPAM if "subscribe" in x.text.lower() else ABSTAIN


@rule(name="short")
def short_comment(x):
    return "ham" if len(x.text) < 12 else None


def lowered(x):
    x.text = x.text.lower()
    return x


def counted(x):
    x.words = x.text.split()
    return x


def loudness(x):
    return sum(letter.isupper() for letter in x.text) / max(len(x.text), 1)


@rule(pre=[lowered, counted], resources={"words": ("song", "love")})
def loves_the_song(x, words):
    return HAM if set(words) & set(x.words) else ABSTAIN


@rule(score=loudness)
def shouts(x):
    return SPAM if loudness(x) > 0.5 else ABSTAIN


@rule
def likes(x):
    return SPAM if 10 / x.likes > 5 else ABSTAIN  # fails where there are none


not_a_rule = SimpleNamespace(name="x")
