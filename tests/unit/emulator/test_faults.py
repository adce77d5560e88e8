import pytest

from airflow_provider_mps.emulator.faults import AudioFault, FaultKind, FaultSequence


def meet(faults, name, times):
    kinds = []
    for _ in range(times):
        kinds.append(faults.next_for(name))
        faults.count(name)
    return kinds


@pytest.mark.parametrize("kind", FaultKind)
@pytest.mark.parametrize(("suffix", "times"), [("", 1), (":1", 1), (":20", 20), (":always", None)])
def test_fault_is_parsed_from_kind_and_times(kind, suffix, times):
    assert AudioFault.parse(f"{kind.value}{suffix}") == AudioFault(kind, times)


NO_FAULTS = ["", ":", ":2", "explode", "TRUNCATE", " truncate", "truncate,reset", "truncate:", "truncate:never"]
NO_FAULTS += [f"truncate:{times}" for times in ("0", "-1", "1.5", "always:2", "2:", "1\n", "\u0662", "9" * 5000)]


@pytest.mark.parametrize("text", NO_FAULTS)
def test_invalid_fault_is_an_error_that_names_the_kinds(text):
    with pytest.raises(ValueError, match="KIND:TIMES") as error:
        AudioFault.parse(text)
    assert all(f" {kind.value}" in str(error.value) for kind in FaultKind)
    assert repr(text) in str(error.value)


def test_faults_occur_in_order_each_as_often_as_given():
    faults = FaultSequence([AudioFault(FaultKind.RESET, 2), AudioFault(FaultKind.STALL)])
    assert meet(faults, "a", 5) == ["reset", "reset", "stall", None, None]


def test_fault_with_always_hides_later_faults():
    faults = FaultSequence([AudioFault(FaultKind.STALL), AudioFault(FaultKind.RESET, None), AudioFault(FaultKind.SLOW)])
    assert meet(faults, "a", 100) == ["stall"] + ["reset"] * 99


def test_each_audio_gets_all_faults():
    faults = FaultSequence([AudioFault(FaultKind.RESET), AudioFault(FaultKind.STALL)])
    assert meet(faults, "a", 2) == meet(faults, "b", 2) == ["reset", "stall"]


def test_fault_is_next_until_it_is_counted():
    faults = FaultSequence([AudioFault(FaultKind.RESET)])
    assert [faults.next_for("a"), faults.next_for("a")] == ["reset", "reset"]


def test_sequence_without_faults_gives_none():
    assert FaultSequence([]).next_for("a") is None
