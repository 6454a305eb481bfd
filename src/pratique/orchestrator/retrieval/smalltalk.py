"""What people say without asking anything: greetings, thanks, good-byes. Pure.

A reply to "hello" needs no passages, and passages about something else would only mislead a model. Such phrases are
taken out of a question before it is looked for; where no word is left, the index is not asked at all.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

__all__ = ["without_small_talk"]

_ENGLISH: Final = (
    "hello there",
    "hello",
    "hi there",
    "hi",
    "hey there",
    "hey",
    "good (?:morning|afternoon|evening|night|day)",
    "how are you(?: doing)?(?: today)?",
    "how is it going",
    "how's it going",
    "what(?:'s| is) up",
    "nice to meet you",
    "who are you",
    "what(?:'s| is) your name",
    "thank you(?: so much| very much)?",
    "thanks(?: a lot| so much)?",
    "see you(?: later| soon)?",
    "good ?bye",
    "bye(?: bye)?",
    "have a (?:nice|good|great) (?:day|evening|night|weekend)",
    "ok(?:ay)?",
    "yes",
    "no",
    "great",
    "cool",
    "lol",
)
_JAPANESE: Final = (
    "(?:はじめ|初め)まして",
    "(?:どうぞ)?(?:宜|よろ)しく(?:(?:お願|おねが)い(?:いた|致)?します)?",
    "お(?:疲|つか)れ(?:様|さま)(?:です|でした)?",
    "(?:お)?元気(?:ですか|でしたか|\\?)",
    "調子は(?:どう|いかが)(?:ですか)?",
    "(?:今日は)?(?:良|い|よ)い(?:お)?天気(?:です|だ)?ね?",
    "(?:あなた|君)は(?:誰|だれ)(?:ですか)?",
    "(?:お)?名前は(?:何|なん)?(?:ですか)?",
    "お(?:早|はよ)う(?:ございます)?",
    "こん(?:にち|ばん)[はわ]",
    "(?:お)?やすみ(?:なさい)?",
    "さようなら|バイバイ|またね|また(?:明日|あした)",
    "(?:どうも)?(?:有難|有り難|ありがと)う(?:ございま(?:す|した))?",
    "(?:ごめん(?:なさい)?|すみません|すいません)",
    "(?:なるほど|了解(?:です|しました)?|わかりました|はい|いいえ)",
    "もしもし|やあ",
)
_EDGE: Final = r"(?:^|(?<=[\s,.!?、。]))"
_PHRASES: Final = re.compile(
    rf"{_EDGE}(?:{'|'.join(_ENGLISH)})(?=$|[\s,.!?])|{_EDGE}(?:{'|'.join(_JAPANESE)})(?=$|[^\w])", re.IGNORECASE
)
_WORD: Final = re.compile(r"[^\W_]")


def without_small_talk(text: str) -> str:
    """Return what a question asks for, in NFKC; "" where it asks for nothing."""
    rest = _PHRASES.sub(" ", unicodedata.normalize("NFKC", text).replace("\u2019", "'")).strip()
    return rest if _WORD.search(rest) else ""
