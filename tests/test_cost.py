"""What a training says of the time that it takes."""

from descargan import cost
from descargan.cost import Cost, forecast
from descargan.options import Options


def test_the_time_to_go_is_that_of_the_iterations_to_go():
    assert forecast(600.0, 1200, on_cpu=True) == "1200 iterations to go, 0.5 s each: about 10 min"


def test_a_day_on_a_cpu_names_the_recipe_and_sizes_that_fit():
    said = forecast(100_000.0, 10_000, on_cpu=True)
    assert "about 27.8 hours" in said
    assert "--recipe fast --image-size 64" in said


def test_a_day_on_a_gpu_is_the_users_own_affair():
    assert "--recipe" not in forecast(100_000.0, 10_000, on_cpu=False)


def test_what_takes_less_than_a_minute_is_not_spoken_of():
    assert forecast(10.0, 1000, on_cpu=True) == ""


def test_it_is_said_once_after_a_whole_turn_of_the_critic(monkeypatch):
    clock = iter(range(0, 100, 2))  # two seconds an iteration, and a slow first one before
    monkeypatch.setattr(cost.time, "monotonic", lambda: next(clock))
    measured = Cost(Options(critic_steps=5), length=106, on_cpu=True)
    said = {i: text for i in range(1, 20) if (text := measured.after(i))}
    assert said == {6: "100 iterations to go, 2 s each: about 3 min"}


def test_iterations_without_the_generator_are_no_measure_of_those_with_it(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(cost.time, "monotonic", lambda: next(clock))
    measured = Cost(Options(critic_steps=1), length=304, on_cpu=True, alone=104)
    said = {i: text for i in range(1, 20) if (text := measured.after(i))}
    assert said == {4: "300 iterations to go, 3 s each: about 15 min"}  # 100 of 1 s, 200 of 4 s


def test_a_training_that_is_over_by_then_has_nothing_to_say(monkeypatch):
    clock = iter(range(0, 1000, 100))
    monkeypatch.setattr(cost.time, "monotonic", lambda: next(clock))
    measured = Cost(Options(critic_steps=1), length=4, on_cpu=True, alone=300)
    assert [measured.after(i) for i in range(1, 5)] == [""] * 4
