from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_mps.batch.ballast import LEAST, Ballast


def ballast(tmp_path):
    return Ballast(ObjectStoragePath(f"file://{tmp_path}/state/ballast"))


def test_it_keeps_room_on_the_disk_until_it_is_thrown_off(tmp_path):
    room = ballast(tmp_path)
    room.take_on(10)
    assert (tmp_path / "state" / "ballast").stat().st_blocks * 512 >= LEAST
    assert room.throw_off()
    assert not (tmp_path / "state" / "ballast").exists()
    assert not room.throw_off()


def test_it_grows_with_what_will_have_to_be_written(tmp_path):
    room = ballast(tmp_path)
    room.take_on(10)
    room.take_on(LEAST)
    assert (tmp_path / "state" / "ballast").stat().st_size == 2 * LEAST


def test_what_somebody_who_was_killed_has_left_is_thrown_off_too(tmp_path):
    ballast(tmp_path).take_on(10)
    assert not ballast(tmp_path).throw_off()
    assert not (tmp_path / "state" / "ballast").exists()


def test_object_stores_have_none():
    room = Ballast(ObjectStoragePath("memory://bucket/ballast"))
    room.take_on(10)
    assert not room.throw_off()
