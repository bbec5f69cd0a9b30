"""Which template a data set is copied from."""

from benchmarks.dataset import HALF_A_DAY, DataSet
from benchmarks.measure import cpu_seconds, trees


def test_a_template_is_made_anew_every_half_day() -> None:
    data = DataSet.of("M")
    assert data.template(0.0) == data.template(HALF_A_DAY - 1.0)
    assert data.template(0.0) != data.template(float(HALF_A_DAY))


def test_every_kind_of_data_has_a_template_of_its_own() -> None:
    kinds = [DataSet.of("M"), DataSet.of("L"), DataSet.crowd_of(10_000), DataSet.crowd_of(1_000_000)]
    names = {data.template(0.0) for data in kinds}
    assert len(names) == len(kinds)
    assert max(map(len, names)) < 64  # longer names would be cut by PostgreSQL


def test_a_process_that_is_gone_takes_no_time() -> None:
    assert cpu_seconds(2**22 + 1) == 0
    assert trees({"gone": 2**22 + 1}) == {"gone": {2**22 + 1}}
