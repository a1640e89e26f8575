"""Shared fixtures: tiny random models of every supported type, written once a session as real checkpoints."""

import gc
import os
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["BLOCKSCAPE_OPENS"] = "demo"  # what tests of the pages were written on
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models, and workers beside the test

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from tests import warm

REAL_MODEL = Path(__file__).resolve().parents[2] / "shared" / "data" / "tinystories-260k"
_LLAMA = dict(
    hidden_size=32,
    intermediate_size=48,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=96,
)
# what starts a browser or workers, or loads several models: `make test-fast` leaves it out
SLOW = (
    "app",
    "blocks",
    "browser",
    "cli",
    "docs",
    "export",
    "faults",
    "heal",
    "jobs",
    "measure",
    "model",
    "choose/test_study.py",
)
SLOW += (
    "test_bench.py",
    "test_contracts.py",
    "test_demo.py",
    "test_ranks.py",
    "test_smollm2.py",
    "test_stored_before.py",
    "test_warm.py",
)
TINY = {
    "llama": dict(_LLAMA, num_hidden_layers=6, tie_word_embeddings=False),
    "mistral": dict(_LLAMA, num_hidden_layers=6, head_dim=8),
    "qwen2": dict(_LLAMA, num_hidden_layers=6, tie_word_embeddings=True),
    "qwen3": dict(_LLAMA, num_hidden_layers=6, head_dim=8),
    "gpt2": dict(n_embd=32, n_layer=6, n_head=4, n_positions=96, resid_pdrop=0.1),
}
TEXT = "\n\n".join(
    (
        f"Document {i}: the quick brown fox number {i * 7919 % 997} jumps over {i % 13} lazy dogs and says "
        "hello "
        f"to {i % 31}."
    )
    for i in range(430)
)


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if any(item.path.is_relative_to(here / place) for place in SLOW):
            item.add_marker("slow")


def pytest_collection_finish():
    """What the imports have left is no garbage: the collection at every load of a model then looks at the
    test's own alone, not for half a second at all of torch and transformers.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Every test has an empty store of its own."""
    monkeypatch.setenv("BLOCKSCAPE_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session", autouse=True)
def warm_start(request):
    """Workers and verifying processes start with torch imported (tests/warm.py)."""
    if not any(item.get_closest_marker("slow") for item in request.session.items):
        yield
        return
    with tempfile.TemporaryDirectory() as folder, warm.server(Path(folder)) as environment:
        os.environ.update(environment)
        yield


@pytest.fixture
def cold_start(monkeypatch):
    """For what is about the start itself: processes import all they need, as a user's do."""
    monkeypatch.delenv("BLOCKSCAPE_WARM", raising=False)


@pytest.fixture
def no_worker(monkeypatch):
    """start() notes the request and leaves the worker to the test: the ids of the jobs it would have started
    one for.
    """
    ids = []
    monkeypatch.setattr("core.jobs.control.spawn", ids.append)
    return ids


@pytest.fixture
def forks(monkeypatch):
    """start() forks its workers from here (tests/forked.py)."""
    from tests.forked import forks_of

    return forks_of(monkeypatch)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, with EOS, and a BOS that it writes itself."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def write_tiny(folder: Path, kind: str, **changes) -> Path:
    """A random checkpoint of one type; weights large enough that every block matters."""
    torch.manual_seed(3)
    tokenizer = byte_tokenizer()
    config = AutoConfig.for_model(
        kind,
        **{**TINY[kind], **changes},
        vocab_size=len(tokenizer),
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.15,
    )
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """{type: folder of a tiny random checkpoint}."""
    root = tmp_path_factory.mktemp("tiny")
    return {kind: write_tiny(root / kind, kind) for kind in TINY}


@pytest.fixture(scope="session")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def real_model():
    if not REAL_MODEL.is_dir():
        pytest.skip("the real pretrained TinyStories checkpoint is not on this machine")
    return REAL_MODEL
