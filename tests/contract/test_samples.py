"""Bodies as they were sent once: they must be understood for ever.

A sample is never changed or removed; a new field gets a new sample.
"""

import json
from pathlib import Path

import pytest

from taskbell.contracts import CATALOGUE, CommandOutcome, Contract

SAMPLES = sorted((Path(__file__).parent / "samples").glob("*/*.json"))
CONTRACTS: dict[str, type[Contract]] = {key: message.contract for key, message in CATALOGUE.items()}
CONTRACTS["command.outcome"] = CommandOutcome

each_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: f"{path.parent.name}/{path.stem}")


def contract_of(sample: Path) -> type[Contract]:
    return CONTRACTS[sample.parent.name]


def test_every_contract_has_a_minimal_and_a_full_sample() -> None:
    found = {key: {path.stem for path in SAMPLES if path.parent.name == key} for key in CONTRACTS}
    assert {key for key, names in found.items() if not names >= {"minimal", "full"}} == set()
    assert {path.parent.name for path in SAMPLES} == set(CONTRACTS)


def test_minimal_samples_have_the_required_fields_and_full_ones_all() -> None:
    for sample in SAMPLES:
        fields = contract_of(sample).model_fields
        given = set(json.loads(sample.read_bytes()))
        if sample.stem == "minimal":
            assert given == {name for name, field in fields.items() if field.is_required()}, sample
        if sample.stem == "full":
            assert given == set(fields), sample


@each_sample
def test_it_is_understood(sample: Path) -> None:
    body = contract_of(sample).parse(sample.read_bytes())
    for name, value in json.loads(sample.read_bytes()).items():
        assert (getattr(body, name) is None) == (value is None)


@each_sample
def test_written_again_it_says_the_same(sample: Path) -> None:
    contract = contract_of(sample)
    body = contract.parse(sample.read_bytes())
    written = body.to_bytes()
    assert set(json.loads(written)) == set(json.loads(sample.read_bytes()))  # what was not set is not written
    assert contract.parse(written) == body


@each_sample
def test_fields_that_are_not_known_are_ignored(sample: Path) -> None:
    contract = contract_of(sample)
    more = json.loads(sample.read_bytes()) | {"added_by_a_newer_version": {"deep": [1, None]}, "x" * 200: "y"}
    assert contract.parse(json.dumps(more).encode()) == contract.parse(sample.read_bytes())


@each_sample
def test_it_is_frozen(sample: Path) -> None:
    body = contract_of(sample).parse(sample.read_bytes())
    for name in type(body).model_fields:
        with pytest.raises(ValueError, match="frozen"):
            setattr(body, name, None)
