"""Tokenizers of checkpoints: text to ids and back, and the ones that GGUF files describe."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from helpers import minilm, smollm2

from lplr.exceptions import CorruptFileError, InputError, MissingPackageError
from lplr.models.base import Checkpoint
from lplr.models.gguf_tokenizer import SPLITTERS, tokenizer_files
from lplr.models.gguf_vocabulary import tokenizer_to_gguf
from lplr.models.tokenizer import Tokenizer, open_tokenizer

tokenizers = pytest.importorskip("tokenizers")

TEXTS = [
    "The quick brown fox, 12345 of them, doesn't jump!",
    "  two  spaces\n\n\tand a tab\r\n 7",
    "naïve café, Straße, 中文字符, 🦙🦙 and e\u0301",
    "<s>inside</s> it",
    "",
]


def trained(kind: str, *, pre: str = "gpt-2") -> Any:
    """A small tokenizer of the package itself, trained on the texts."""
    special = ["<unk>", "<s>", "</s>"]
    if kind == "llama":
        special += [f"<0x{i:02X}>" for i in range(256)]
        found = tokenizers.Tokenizer(
            tokenizers.models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True)
        )
        found.normalizer = tokenizers.normalizers.Sequence(
            [
                tokenizers.normalizers.Prepend("\u2581"),
                tokenizers.normalizers.Replace(" ", "\u2581"),
            ]
        )
        found.decoder = tokenizers.decoders.Sequence(
            [
                tokenizers.decoders.Replace("\u2581", " "),
                tokenizers.decoders.ByteFallback(),
                tokenizers.decoders.Fuse(),
                tokenizers.decoders.Strip(" ", 1, 0),
            ]
        )
        found.post_processor = tokenizers.processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
        alphabet: list[str] = []
    else:
        found = tokenizers.Tokenizer(tokenizers.models.BPE())
        whole = json.loads(found.to_str()) | {"pre_tokenizer": SPLITTERS[pre]}
        found = tokenizers.Tokenizer.from_str(json.dumps(whole))
        found.decoder = tokenizers.decoders.ByteLevel()
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    found.train_from_iterator(TEXTS[:1] * 3 + TEXTS[:2], trainer)
    if kind == "llama":  # bytes are no special tokens, the trainer only knows no other way
        whole = json.loads(found.to_str())
        whole["added_tokens"] = whole["added_tokens"][:3]
        found = tokenizers.Tokenizer.from_str(json.dumps(whole))
    return found


def through_gguf(whole: Any, size: int, **settings: str) -> dict[str, bytes]:
    """The files again, from metadata without the tokenizer.json itself."""
    files = {
        "tokenizer.json": whole.to_str().encode(),
        "tokenizer_config.json": json.dumps(settings).encode(),
    }
    metadata = tokenizer_to_gguf({"vocab_size": size}, files)
    del metadata["tokenizer.huggingface.json"]
    return tokenizer_files("test", metadata)


@pytest.mark.parametrize("pre", SPLITTERS)
def test_byte_level_through_gguf(pre: str) -> None:
    whole = trained("gpt2", pre=pre)
    size = whole.get_vocab_size()
    settings = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": "{{ messages }}"}
    files = through_gguf(whole, size + 5, **settings)
    again = Tokenizer(files["tokenizer.json"])
    if pre in ("llama-bpe", "llama3"):  # these take whole words first, and begin with a token
        model = json.loads(whole.to_str())
        model["model"]["ignore_merges"] = True
        whole = tokenizers.Tokenizer.from_str(json.dumps(model))
    for text in TEXTS:
        if pre == "qwen2":
            text = unicodedata.normalize("NFC", text)
        ids = again.encode(text)
        assert ids.tolist() == whole.encode(text).ids
        assert again.decode(ids) == text
    composed, apart = again.encode("\u00e9").tolist(), again.encode("e\u0301").tolist()
    assert (composed == apart) == (pre == "qwen2")
    config = json.loads(files["tokenizer_config.json"])
    assert settings.items() <= config.items()
    assert again.vocabulary_size == size + 5  # rows of the embedding that no text uses


def test_sentence_piece_through_gguf() -> None:
    whole = trained("llama")
    files = through_gguf(whole, whole.get_vocab_size(), bos_token="<s>", eos_token="</s>")
    again = Tokenizer(files["tokenizer.json"])
    for text in TEXTS:
        ids = again.encode(text)
        assert ids.tolist() == whole.encode(text).ids
        assert ids[0] == 1
        assert again.encode(text, special_tokens=False).tolist() == ids[1:].tolist()
        assert again.decode(ids, special_tokens=False) == whole.decode(ids.tolist())


def test_word_piece_of_minilm() -> None:
    checkpoint = minilm()
    ours = open_tokenizer(checkpoint)
    # [CLS] una ##ff ##able ! [SEP], without the padding to 128 that its tokenizer.json asks for.
    assert ours.encode("Unaffable!").tolist() == [101, 14477, 20961, 3468, 999, 102]
    metadata = tokenizer_to_gguf(checkpoint.config, checkpoint.tokenizer_files())
    del metadata["tokenizer.huggingface.json"]
    again = Tokenizer(tokenizer_files("test", metadata)["tokenizer.json"])
    for text in TEXTS:
        assert again.encode(text).tolist() == ours.encode(text).tolist()
    assert ours.encode(" ".join(["word"] * 300)).size == 302


def test_smollm2_takes_each_digit_alone() -> None:
    tokenizer = open_tokenizer(smollm2())
    ids = tokenizer.encode("The sky is blue.\n\n 12<|im_end|>")
    assert tokenizer.decode(ids) == "The sky is blue.\n\n 12<|im_end|>"
    assert [tokenizer.decode([i]) for i in ids[-4:]] == ["\n\n ", "1", "2", "<|im_end|>"]
    assert tokenizer.decode(ids, special_tokens=False).endswith("12")
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    # The tokens that another program made of a text.
    begin = [2122, 654, 325, 1137, 288, 325, 827, 4547, 282, 701]
    assert tokenizer.encode(tokenizer.decode(begin)).tolist() == begin


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_stream_writes_whole_characters(kind: str) -> None:
    tokenizer = Tokenizer(trained(kind).to_str().encode())
    for text in TEXTS:
        ids = tokenizer.encode(text)
        pieces = list(tokenizer.stream(int(i) for i in ids))
        assert "".join(pieces) == tokenizer.decode(ids, special_tokens=False)
        assert all(pieces)
        assert "\ufffd" not in "".join(pieces)
    cut = tokenizer.encode("🦙")[:-1]  # some of the bytes of a character
    assert "".join(tokenizer.stream(cut)).endswith("\ufffd")
    # A network may have a few rows more than its tokenizer has tokens.
    assert list(tokenizer.stream([tokenizer.vocabulary_size])) == []


def checkpoint_of(data: bytes, **config: int) -> Checkpoint:
    return Checkpoint(Path("model"), config, {}, [], lambda: {"tokenizer.json": data})


def test_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    data = trained("gpt2").to_str().encode()
    size = Tokenizer(data).vocabulary_size
    assert open_tokenizer(checkpoint_of(data, vocab_size=size)).vocabulary_size == size
    with pytest.raises(InputError, match=f"has {size} tokens and the embedding {size - 1} rows"):
        open_tokenizer(checkpoint_of(data, vocab_size=size - 1))
    with pytest.raises(CorruptFileError, match=r"tokenizer.json is not valid"):
        open_tokenizer(checkpoint_of(data[:100]))
    tokenizer = Tokenizer(data)
    with pytest.raises(InputError, match=f"{size} at 1 is outside the vocabulary of {size}"):
        tokenizer.decode([0, size])
    with pytest.raises(InputError, match="-1 at 0 is outside"):
        list(tokenizer.stream([-1]))
    with pytest.raises(InputError, match="must be whole numbers"):
        tokenizer.decode([0.5])
    with pytest.raises(InputError, match="must be a str, not bytes"):
        tokenizer.encode(b"text")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no valid Unicode"):
        tokenizer.encode("\ud800")
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(MissingPackageError, match=r"lplr\[models\]"):
        Tokenizer(data)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": "rwkv"}, InputError, "'rwkv' is not known; these are: gpt2, llama, bert"),
        ({"pre": "own"}, InputError, "tokenizer.ggml.pre 'own' is not known"),
        ({"tokens": ["a", "a"]}, CorruptFileError, "2 tokens, of which 1 are different"),
        ({"tokens": ["a", 1]}, CorruptFileError, "are no texts"),
        ({"token_type": [1]}, CorruptFileError, "2 tokens, 1 types"),
        ({"eos_token_id": 7}, CorruptFileError, "the eos token is 7, and there are 2"),
        ({"merges": None}, CorruptFileError, "not valid"),
    ],
)
def test_metadata_that_is_no_tokenizer(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    found = {"model": "gpt2", "tokens": ["a", "b"], "merges": []} | change
    metadata = {f"tokenizer.ggml.{k}": v for k, v in found.items() if v is not None}
    with pytest.raises(error, match=message):
        tokenizer_files("test", metadata)


def test_a_tokenizer_without_a_name_in_gguf() -> None:
    whole = json.loads(trained("gpt2").to_str())
    files = {"tokenizer.json": json.dumps(whole | {"pre_tokenizer": None}).encode()}
    with pytest.raises(InputError, match="its pre_tokenizer is none that has a known name"):
        tokenizer_to_gguf({"vocab_size": 1000}, files)
    with pytest.raises(InputError, match="the embedding 3 rows"):
        tokenizer_to_gguf({"vocab_size": 3}, {"tokenizer.json": json.dumps(whole).encode()})
    with pytest.raises(InputError, match="has no tokenizer.json"):
        tokenizer_to_gguf({"vocab_size": 3}, {})


def test_nothing_is_drawn_at_random() -> None:
    """What a tokenizer drops in training would give other ids each time."""
    found = json.loads(trained("gpt2").to_str())
    plain, found["model"]["dropout"] = json.dumps(found), 0.9
    expected = Tokenizer(plain.encode()).encode(TEXTS[0])
    dropping = tokenizers.Tokenizer.from_str(json.dumps(found))
    assert any(dropping.encode(TEXTS[0]).ids != expected.tolist() for _ in range(20))
    dropping = Tokenizer(json.dumps(found).encode())
    assert all(dropping.encode(TEXTS[0]).tolist() == expected.tolist() for _ in range(20))
