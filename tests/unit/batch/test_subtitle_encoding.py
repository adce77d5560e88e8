import pytest

from airflow_provider_mps.batch.subtitle_encoding import decode_subtitles, parse_encoding
from airflow_provider_mps.exceptions import InvalidRequestError

WESTERN = {
    "English": "“Don’t,” she said… it’s 5 € – or £4.",
    "French": "Où étiez-vous ? Là-bas, près de l’hôtel. Ça va, Noël ? Le cœur d’une sœur aînée.",
    "German": "„Schöne Grüße“, sagte er. Für wen? Über die Straße, bitte ‑ äh.".replace("‑", "–"),
    "Spanish": "¿Dónde está el niño? ¡Mañana! Según él, la cigüeña llegó aquí.",
    "ordinals": "El 1º piso, nº 5: 25ºC. La 2ª, Mª Carmen.",
    "Portuguese": "Não, a reunião é amanhã às três. Você já pôs os pães? Ações e lições.",
    "Italian": "Perché? È così, però può darsi di più. Città e libertà.",
    "Swedish": "Är det här bra? På ön åt vi smörgås. Någon sa nej.",
    "Finnish": "Hyvää yötä, äiti. Täällä on pöytä, tyttö näki sen. Älä mene.",
    "Danish": "Hvad så? Er du på øen? Blåbær og rødgrød. Æblet.",
    "Icelandic": "Það er gott að sjá þig. Hvað ertu að gera? Ég veit ekki, nú fer ég út.",
    "Dutch": "Eén, geïnteresseerd, coördinatie, zoë.",
    "markup": '<font face="Arial">Café</font>',
}
FOREIGN = {
    ("gb18030", "你好，世界。我们走吧。"),
    ("gb18030", "好"),
    ("cp1252", "Été"),  # too short to be sure
    ("big5", "你好，世界。我們走吧。"),
    ("shift_jis", "こんにちは。テストです。"),
    ("shift_jis", "テスト"),
    ("euc_jp", "こんにちは。"),
    ("euc_kr", "안녕하세요. 우리 가자."),
    ("cp949", "안녕"),
    ("cp1251", "Привет, как дела?"),
    ("cp1251", "атака"),
    ("koi8-r", "Привет, как дела?"),
    ("cp1253", "Καλημέρα, τι κάνεις;"),
    ("cp1255", "שלום, מה שלומך?"),
    ("cp1256", "مرحبا، كيف حالك؟"),
    ("cp874", "สวัสดีครับ"),
    ("cp1250", "Příliš žluťoučký kůň úpěl ďábelské ódy."),
    ("cp1250", "Cześć, jak się masz? Dziękuję, źle. Idę później."),
    ("cp1250", "Jó napot, hogy van? Ő jól van, köszönöm. Tűz és víz. Eső."),
    ("iso8859-2", "Cześć, jak się masz? Dziękuję, źle. Idę później."),
    ("cp1254", "Nasılsın? Şimdi gidiyorum, çünkü yağmur yağıyor. Güzel."),
    ("cp1250", "Čovjek je došao kući, a žena ga čeka. Đak uči."),
    ("cp1257", "Ačiū, gražu. Šiandien ėjau į mišką, ąžuolas."),
    ("cp1250", "Mulţumesc, bună ziua. Ştiu că eşti aici."),
    ("cp1250", "Bună ziua, domnule. Unde eşti?"),
    ("iso8859-2", "Bună ziua, domnule. Nu şi eu."),
    ("cp850", "Schöne Grüße über die Straße"),
    ("cp850", "Le café de l'été est très près"),
    ("mac_roman", "Où étiez-vous ? Là-bas, près de l'hôtel."),
    ("mac_roman", "Schöne Grüße über die Straße"),
}


def write_cue(text: str) -> str:
    return f"1\n00:00:01,000 --> 00:00:02,500\n{text}\n"


@pytest.mark.parametrize("language", WESTERN)
def test_western_text_is_detected_as_cp1252(language):
    text = write_cue(WESTERN[language])
    assert decode_subtitles(text.encode("cp1252"), "m.srt", None) == (text, "cp1252")


@pytest.mark.parametrize(("encoding", "text"), sorted(FOREIGN))
def test_other_encoding_is_rejected_unless_it_is_set(encoding, text):
    content = write_cue(text).encode(encoding)
    with pytest.raises(InvalidRequestError, match=r"m.srt cannot be detected.*Set subtitle_encoding, e.g. cp1252"):
        decode_subtitles(content, "m.srt", None)
    assert decode_subtitles(content, "m.srt", encoding) == (write_cue(text), encoding)


@pytest.mark.parametrize("text", ["Hello", "Où", "你好，世界", "Привет", "😀"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)
def test_unicode_is_detected(text, encoding):
    cue = write_cue(text)
    assert decode_subtitles(cue.encode(encoding), "m.srt", None)[0] == cue


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-be"])
def test_byte_order_mark_of_either_order_is_removed(encoding):
    cue = write_cue("Hello")
    assert decode_subtitles(("\ufeff" + cue).encode(encoding), "m.srt", None)[0] == cue
    assert decode_subtitles(("\ufeff" + cue).encode(encoding), "m.srt", encoding)[0] == cue


def test_stray_nul_character_does_not_change_the_encoding():
    cue = write_cue("Hel\0lo")
    assert decode_subtitles(cue.encode(), "m.srt", None) == (cue, "utf-8")


def test_foreign_name_in_a_western_text_is_accepted():
    text = write_cue("Der Señor mag schöne Grüße für die übrigen Mädchen. " + "Bär, König, Tür, Öl, Ära. " * 4)
    assert decode_subtitles(text.encode("cp1252"), "m.srt", None) == (text, "cp1252")


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (b"caf\xe9", "utf-8", r"m.srt is not valid utf-8 at byte 4, so nothing was submitted"),
        (b"\xef\xbb\xbfcaf\xe9", None, r"is not valid utf-8 at byte 7"),
        (b"\xff\xfea", None, r"is not valid utf-16"),
        (b"\x81", "cp1252", r"is not valid cp1252 at byte 1"),
    ],
)
def test_content_that_is_not_in_its_encoding_is_rejected(content, encoding, message):
    with pytest.raises(InvalidRequestError, match=message):
        decode_subtitles(content, "m.srt", encoding)


@pytest.mark.parametrize("value", [None, ""])
def test_no_encoding_means_detection(value):
    assert parse_encoding(value) is None


@pytest.mark.parametrize("value", ["utf-8", "GB18030", " cp1252 ", "shift_jis", "utf-16"])
def test_known_encoding_is_returned(value):
    assert parse_encoding(value) == value.strip()


@pytest.mark.parametrize("value", ["klingon", "base64", "rot13", "undefined", "hex", "utf-8\0", 8, "../x", "a" * 500])
def test_unknown_encoding_is_rejected(value):
    with pytest.raises(InvalidRequestError, match="is not a text encoding of Python, so nothing was submitted"):
        parse_encoding(value)
