import random

from airflow_provider_mps.batch.experience import Experience


def test_at_first_an_interval_is_waited():
    assert Experience().first_question_after(10) == 10


def test_then_as_long_as_every_other_line_took_and_a_little_less():
    experience = Experience()
    for seconds in (30, 60, 90):
        experience.took(seconds)
    assert experience.first_question_after(10) == 54


def test_never_less_than_an_interval():
    experience = Experience()
    experience.took(1)
    assert experience.first_question_after(10) == 10


def test_what_it_learns_does_not_run_away_and_follows_what_changes():
    experience, chance = Experience(), random.Random(1)

    def live_through(fastest, slowest):
        for _ in range(2000):
            done, asked = chance.uniform(fastest, slowest), experience.first_question_after(10)
            while asked < done:
                asked += 10
            experience.took(asked)

    live_through(30, 90)
    assert 40 < experience.first_question_after(10) < 80
    live_through(3, 9)
    assert experience.first_question_after(10) == 10
