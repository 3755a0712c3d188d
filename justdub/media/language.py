"""Language tags of sound tracks: containers want ISO 639-2 (three letters), people say "fr", "fr-CA" or "French"."""

from __future__ import annotations

UNDEFINED = "und"

_TABLE = """
af afr Afrikaans|am amh Amharic|ar ara Arabic|az aze Azerbaijani|be bel Belarusian|bg bul Bulgarian|bn ben Bengali
bs bos Bosnian|ca cat Catalan|cs ces Czech|cy cym Welsh|da dan Danish|de deu German|el ell Greek|en eng English
eo epo Esperanto|es spa Spanish|et est Estonian|eu eus Basque|fa fas Persian|fi fin Finnish|fil fil Filipino
fr fra French|ga gle Irish|gl glg Galician|gu guj Gujarati|he heb Hebrew|hi hin Hindi|hr hrv Croatian
hu hun Hungarian|hy hye Armenian|id ind Indonesian|is isl Icelandic|it ita Italian|ja jpn Japanese|jv jav Javanese
ka kat Georgian|kk kaz Kazakh|km khm Khmer|kn kan Kannada|ko kor Korean|la lat Latin|lo lao Lao|lt lit Lithuanian
lv lav Latvian|mk mkd Macedonian|ml mal Malayalam|mn mon Mongolian|mr mar Marathi|ms msa Malay|mt mlt Maltese
my mya Burmese|ne nep Nepali|nl nld Dutch|no nor Norwegian|nb nob Bokmal|nn nno Nynorsk|pa pan Punjabi|pl pol Polish
ps pus Pashto|pt por Portuguese|ro ron Romanian|ru rus Russian|si sin Sinhala|sk slk Slovak|sl slv Slovenian
so som Somali|sq sqi Albanian|sr srp Serbian|sv swe Swedish|sw swa Swahili|ta tam Tamil|te tel Telugu|th tha Thai
tl tgl Tagalog|tr tur Turkish|uk ukr Ukrainian|ur urd Urdu|uz uzb Uzbek|vi vie Vietnamese|yue yue Cantonese
zh zho Chinese|zh zho Mandarin|zu zul Zulu
"""
_ROWS = tuple(tuple(row.split()) for row in _TABLE.replace("\n", "|").split("|") if row.strip())
_CODES = {key.lower(): row[1] for row in _ROWS for key in (row[0], row[2])}


def language_tag(language: str | None) -> str:
    """The ISO 639-2 code of "fr", "fr-CA", "French" or "fra"; "und" for what is not known.

    A dub is never lost over its label: anything of three ASCII letters is taken as a code, the rest becomes "und".
    """
    name = (language or "").strip().lower()
    head = name.replace("_", "-").split("-")[0].strip()
    for key in (name, head):
        if key in _CODES:
            return _CODES[key]
    return head if len(head) == 3 and head.isascii() and head.isalpha() else UNDEFINED
