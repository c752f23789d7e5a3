"""What doctor advises where the variable of `application.url_env` leads the application nowhere."""

from __future__ import annotations

from safepoint.launch.doctor.led import without_effect


def test_a_variable_that_the_settings_read_is_not_named_as_the_one_to_name() -> None:
    read = ("DATABASE_URL", "SECRET_KEY")
    assert "set once more on the way" in without_effect("DATABASE_URL", read)
    assert "they read: DATABASE_URL, SECRET_KEY" in without_effect("OTHER_URL", read)
    assert without_effect("OTHER_URL", ()).endswith("they read: none")
