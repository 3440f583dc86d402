import threading

from dml_bench.results.live import read_told, write_told


def test_several_who_write_one_file_at_once_do_not_hinder_each_other(tmp_path):
    errors = []

    def write(number):
        try:
            for _ in range(200):
                write_told(tmp_path / ".plan.json", {"number": number})
        except OSError as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not errors
    assert read_told(tmp_path / ".plan.json")["number"] in range(4)
    assert [path.name for path in tmp_path.iterdir()] == [".plan.json"]
