"""The benchmarks' arithmetic, and what they make of it."""

import json
from xml.etree import ElementTree

import pytest
from benchmarks.__main__ import arguments, command, setting
from benchmarks.cases import CASES
from benchmarks.chart import LONGEST, bars, length, svg
from benchmarks.chart import PANELS as PANELS_DRAWN
from benchmarks.peers import Peer, of_peer
from benchmarks.result import Result, Run, middle, percentile
from benchmarks.table import lines_of, markdown, number, targets
from benchmarks.targets import TUNED, USUAL, judge


def mailing(seconds: float = 4.0, who: str = "taskbell", **more: object) -> Result:
    cpu = {"notifier-1": 2.0, "notifier-2": 2.0, "postgresql": 1.0, "sink": 3.0, "benchmark": 1.0}
    given = {"cpu": cpu, "first": 0.1, "peak_mb": {"notifier-1": 120.0}} | more
    return Result("mailing", "M: 8,000 mails", 8_000, "mails", seconds, who, **given)  # type: ignore[arg-type]


def test_the_rate_and_cpu_time_are_of_all_units() -> None:
    result = mailing()
    assert result.rate == 2_000
    assert result.cpu_per_thousand["postgresql"] == 0.125


def test_only_the_services_own_cpu_time_counts_as_ours() -> None:
    assert mailing().ours_per_thousand == 0.5


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile([3.0], 0.99) == 3
    assert percentile([1.0, 2.0], 1.0) == 2


def test_of_several_runs_the_one_in_the_middle_counts() -> None:
    assert middle([mailing(9.0), mailing(1.0), mailing(5.0)]).seconds == 5
    assert middle([mailing(9.0), mailing(1.0)]).seconds == 1


def test_a_run_reads_back_what_it_wrote() -> None:
    run = Run({"cores": 2}, [mailing(), mailing(16.0, USUAL)])
    assert Run.of_json(json.loads(json.dumps(run.to_json()))) == run


def test_targets_beside_peers_are_ratios_in_one_run() -> None:
    run = Run({}, [mailing(4.0), mailing(24.0, USUAL), mailing(8.0, TUNED)])
    found = {it.target.what: (it.value, it.verdict) for it in judge(run)}
    assert found["rate, times the usual"] == (6, "reached")
    assert found["rate, times the tuned"] == (2, "missed")


def test_a_target_without_its_peer_is_not_called_missed() -> None:
    (usual, *_) = judge(Run({}, [mailing()]))
    assert usual.value is None
    assert usual.verdict == "not measured"


def test_targets_of_cases_that_did_not_run_are_left_out() -> None:
    assert {it.target.case for it in judge(Run({}, [mailing()]))} == {"mailing"}


@pytest.mark.parametrize(
    ("value", "words"), [(0.0, "0"), (0.0123, "0.0123"), (2.5, "2.5"), (99.94, "99.9"), (1234.5, "1,234")]
)
def test_numbers_have_three_digits(value: float, words: str) -> None:
    assert number(value) == words


def test_the_tables_have_as_many_cells_in_every_line() -> None:
    run = Run({}, [mailing(), mailing(24.0, USUAL, cpu={}), Result("report", "L", 1, "reports", 0.2)])
    for lines in (list(markdown(run)), list(targets(judge(run)))):
        assert len({line.count("|") for line in lines}) == 1


def test_a_result_tells_its_own_figures() -> None:
    lines = list(lines_of(mailing(figures={"late at p99, s": 0.5}, longest_transaction=0.25)))
    assert "  late at p99, s: 0.5" in lines
    assert "  longest transaction 0.25 s" in lines


def test_a_result_says_when_the_machine_was_busy_with_something_else() -> None:
    assert any("20%" in line for line in lines_of(mailing(others=0.2)))
    assert not any("unrelated" in line for line in lines_of(mailing(others=0.02)))


def test_the_picture_is_well_formed_and_leaves_out_what_did_not_run() -> None:
    run = Run({}, [mailing(), mailing(24.0, "a <peer>")])
    root = ElementTree.fromstring(svg(run))
    texts = [it.text for it in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "a <peer>" in texts
    assert "2,000/s" in texts
    assert not any(text and "Cleanup" in text for text in texts)


def test_the_picture_can_be_read_on_a_dark_page() -> None:
    assert "prefers-color-scheme: dark" in svg(Run({}, [mailing()]))


def test_bars_are_as_long_as_their_figures() -> None:
    assert length(5.0, 10.0) == LONGEST / 2
    assert length(0.001, 1_000.0) == 2
    run = Run({}, [mailing(), mailing(8.0, USUAL)])
    assert bars(PANELS_DRAWN[0], run) == [(USUAL, 1_000), ("taskbell", 2_000)]


def test_what_a_peer_prints_becomes_a_result() -> None:
    told_by_peer = {
        "runs": [
            {
                "mails": 9_000,
                "wall_s": 9.0,
                "others_share": 0.05,
                "first_mail_s": 0.7,
                "peak_rss_process_mb": 80.0,
                "peak_pss_tree_mb": 150.0,
                "cpu_s": {"worker": 18.0, "postgres": 1.0, "harness": 5.0, "others": 1.0, "steal": 0.0},
            }
        ]
    }
    result = of_peer(Peer("mailing", USUAL, "M", ("--scenario", "A")), told_by_peer)
    assert result.rate == 1_000
    assert result.ours_per_thousand == 2
    assert result.first == 0.7


def test_settings_of_the_services_are_names_and_values() -> None:
    assert setting("MAIL_POOL_SIZE=16") == ("MAIL_POOL_SIZE", "16")
    assert arguments(["mailing", "--set", "MAIL_POOL_SIZE=16"]).set == [("MAIL_POOL_SIZE", "16")]
    with pytest.raises(SystemExit):
        arguments(["mailing", "--set", "no"])


def test_all_stands_for_every_case() -> None:
    assert arguments(["all"]).cases == list(CASES)
    with pytest.raises(SystemExit):
        arguments([])


def test_the_command_that_is_kept_names_no_place_of_this_machine() -> None:
    words = ["all", "--peers", "/somewhere/peers", "--json", "/tmp/x.json", "--rounds", "3"]
    assert command(words) == "python -m benchmarks all --peers DIR --json FILE --rounds 3"
