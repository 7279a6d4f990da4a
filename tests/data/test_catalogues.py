"""Lists as people write them: each row read, or named with its number."""

import pytest

from mousai.data.catalogues import read_catalogue


@pytest.fixture
def folder(tmp_path):
    for name in ("a.wav", "b.wav", "c.wav"):
        (tmp_path / name).touch()
    return tmp_path


def read(folder, text: str, name: str = "list.csv"):
    (folder / name).write_text(text)
    return read_catalogue(folder / name, folder)


def titles(catalogue) -> dict[str, str]:
    return {file.name: row.get("title", "") for file, row in catalogue.files.items()}


def test_a_quotation_mark_that_opens_a_title_is_a_letter(folder):
    found = read(folder, 'file\ttitle\na.wav\t"Heroes\nb.wav\t"Low\nc.wav\tLodger\n', "list.tsv")
    assert titles(found) == {"a.wav": '"Heroes', "b.wav": '"Low', "c.wav": "Lodger"} and not found.refused
    found = read(folder, 'file,title\na.wav,"Heroes\nb.wav,"Low\nc.wav,"One, two"\n')
    assert titles(found) == {"a.wav": '"Heroes', "b.wav": '"Low', "c.wav": "One, two"}


def test_names_of_mtg_jamendo_with_a_quotation_mark(folder):
    ids = "track_1\tartist_1\talbum_1"
    names = f'TRACK_ID\tARTIST_ID\tALBUM_ID\tTRACK_NAME\tARTIST_NAME\tALBUM_NAME\n{ids}\t"Heroes\tDavid\tX\n'
    (folder / "raw.meta.tsv").write_text(names + names.split("\n")[1].replace("_1", "_2") + "\n")
    listed = f"TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n{ids}\ta.wav\t1.0\tgenre---pop\n"
    found = read(folder, listed + ids.replace("_1", "_2") + "\tb.wav\t1.0\tgenre---pop\n", "raw.tsv")
    assert titles(found) == {"a.wav": '"Heroes', "b.wav": '"Heroes'}


@pytest.mark.parametrize("word", ["NA", "nan", "None", "null"])
def test_a_name_that_other_programs_take_for_nothing_is_a_name(folder, word):
    [row] = read(folder, f"file,artist\na.wav,{word}\n").files.values()
    assert row == {"artist": word}


@pytest.mark.parametrize("row", [2, 3])
def test_a_row_with_a_comma_too_many_is_named_and_the_others_are_read(folder, row):
    rows = ["a.wav,One", "b.wav,Two", "c.wav,Three"]
    rows[row - 2] += ",more"
    found = read(folder, "\n".join(["file,title", *rows]) + "\n")
    assert len(found.files) == 2
    assert found.refused == [(f"row {row} of list.csv", "3 fields, the header has 2")]


def test_a_listed_file_that_is_missing_is_named(folder):
    found = read(folder, "file,title\na.wav,One\ngone.wav,Two\n")
    assert titles(found) == {"a.wav": "One"} and found.refused == [("gone.wav", "listed, but not there")]


@pytest.mark.parametrize(
    ("name", "text", "row"),
    [
        ("list.csv", "file,title\na.wav,One\n,Two\n", "row 3 of list.csv"),
        ("list.json", '[{"file": "a.wav", "title": "One"}, {"file": null}]', "row 2 of list.json"),
    ],
)
def test_a_row_without_a_file_name_is_named(folder, name, text, row):
    found = read(folder, text, name)
    assert titles(found) == {"a.wav": "One"} and found.refused == [(row, "no file name")]


def test_of_a_file_that_is_listed_again_the_first_row_counts(folder):
    found = read(folder, "file,title\na.wav,One\n./a.wav,Two\n")
    assert titles(found) == {"a.wav": "One"} and found.refused == [("./a.wav", "listed again, its first row counts")]


def test_windows_separators_are_read_unless_they_are_a_part_of_the_name(folder):
    (folder / "sub").mkdir()
    for name in ("sub/2.wav", "back\\slash.wav"):
        (folder / name).touch()
    found = read(folder, "file,title\nsub\\2.wav,One\nback\\slash.wav,Two\n")
    assert titles(found) == {"2.wav": "One", "back\\slash.wav": "Two"} and not found.refused
    with pytest.raises(ValueError, match="points outside"):
        read(folder, "file\n..\\evil.wav\n")


def test_of_several_values_of_json_the_first_counts(folder):
    [row] = read(folder, '[{"file": "a.wav", "genre": ["Rock", "Pop"], "album": []}]', "list.json").files.values()
    assert row == {"genre": "Rock"}


@pytest.mark.parametrize("form", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("first", ["sep=;\r\n", '"sep=;"\n', ""])
def test_lists_as_excel_writes_them(folder, form, first):
    (folder / "list.csv").write_bytes(f"{first}file;title\na.wav;Bj\u00f6rk, 1, 2\n;x\n".encode(form))
    found = read_catalogue(folder / "list.csv", folder)
    assert titles(found) == {"a.wav": "Bj\u00f6rk, 1, 2"}
    assert found.refused == [(f"row {4 if first else 3} of list.csv", "no file name")]


def test_an_empty_list_is_called_empty(folder):
    with pytest.raises(ValueError, match=r"list\.csv: the list is empty: choose another file"):
        read(folder, " \n")


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators_are_found(folder, separator):
    found = read(folder, f"file{separator}title\na.wav{separator}One, two\n")
    assert titles(found) == {"a.wav": "One, two"}


def test_a_licence_goes_before_a_copyright_line(folder):
    [row] = read(folder, "file,copyright,license\na.wav,1999 Somebody,CC-BY\n").files.values()
    assert row == {"licence": "CC-BY"}


def test_a_name_is_found_in_another_form_of_its_letters(folder):
    (folder / "Bjo\u0308rk.wav").touch()
    found = read(folder, "file,title\nBj\u00f6rk.wav,One\n")
    assert titles(found) == {"Bjo\u0308rk.wav": "One"}
