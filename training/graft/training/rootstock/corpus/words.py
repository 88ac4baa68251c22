"""Words for the generated documents, and the split that keeps some of them for measuring."""
# ruff: noqa: SIM905 - a page of words reads better as one text

import zlib
from random import Random

CONSONANTS = "bcdfghjklmnprstvwz"
ONSETS = (*CONSONANTS, *"bl br ch cl cr dr fl fr gl gr pl pr sh sl st th tr".split())
VOWELS = "aeiou"
CODAS = ("", "", "", *"bdgklmnprstx", "nd", "nt", "rk", "st", "sh", "ck")
MAX_LETTERS = 9

DICTIONARY = tuple(
    """
    apple arrow autumn baker basket beach bird boat book bottle branch bread bridge brother bucket butter button cabin
    candle carpet castle cat chair cherry circle city clock cloud coat coffee cook copper corner cotton cousin cup dance
    daughter day desert dinner doctor dog door dream drum eagle earth engine evening farmer father feather field finger
    fire fish flower fog forest fox friend frog garden gate ghost giant girl glass gold grain grape grass guitar hammer
    harbor hat hill honey horse house ice island jacket jar jewel juice jungle kettle key king kitchen kite ladder lake
    lamp lemon letter light lion lizard market melon memory milk mirror monkey moon morning mother mountain mouse music
    needle nest night number ocean office onion orange orchard otter owl oyster paint palace paper parrot path peach
    pencil pepper piano picture pillow pilot pirate planet plate pocket poem pond potato prince pumpkin puzzle queen
    rabbit radio rain river road robot rocket roof room root rope rose sailor salt sand school sea season shadow sheep
    shell ship shirt silver singer sister sky snow soap song soup spider spoon spring star station stone storm story
    street sugar summer sun table tailor tea teacher temple tent thunder tiger tower town train tree trumpet tunnel
    turtle uncle valley village violin voice wagon wall water wave whale wheat wheel window winter wizard wolf wood wool
    yard year zebra
    bright calm clever cold dark deep dry early empty fast fresh gentle green happy heavy hot kind large late light
    little long loud narrow new old quick quiet red round sharp short silent slow small smooth soft strong sweet tall
    thick tiny warm wide wild wise young answer begin bring build carry catch climb count cross draw drink drive explain
    finish follow forget gather give help hold jump keep laugh learn listen look make move open play promise push read
    remember run sail search sing sleep smile speak stand start swim talk teach think travel turn visit walk watch
    whisper win write
    """.split()
)


def is_held_out(key: str) -> bool:
    """True for the eighth of all keys (words, or operand pairs written ``12+35``) that no training document asks
    about.
    """
    return zlib.crc32(key.encode()) % 8 == 0


def invented_word(rng: Random) -> str:
    """A pronounceable word of 3 to ``MAX_LETTERS`` lower-case letters."""
    while True:
        syllables = rng.choice((1, 2, 2, 2, 3))
        word = "".join(rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(syllables))
        if 3 <= len(word) <= MAX_LETTERS:
            return word


def word(rng: Random, *, held_out: bool = False) -> str:
    """An invented or (one time in four) dictionary word from the wanted side of the split."""
    while True:
        candidate = rng.choice(DICTIONARY) if rng.random() < 0.25 else invented_word(rng)
        if is_held_out(candidate) == held_out:
            return candidate


def words(rng: Random, count: int, *, held_out: bool = False) -> list[str]:
    """``count`` different words from the wanted side of the split."""
    chosen: dict[str, None] = {}
    while len(chosen) < count:
        chosen[word(rng, held_out=held_out)] = None
    return list(chosen)
