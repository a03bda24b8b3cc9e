import io
import os
import warnings
from pathlib import Path

import hostile
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tutelage.data import (
    Columns,
    ImageArray,
    ImageFiles,
    Limits,
    perceptual_hash,
    read_image,
    read_image_folder,
    read_manifest,
)
from tutelage.data.duplicates import from_hex
from tutelage.data.manifest import read_classes


def save(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(hostile.encoded(hostile.photograph(seed), "PNG"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(6):
        save(tmp_path / "images" / f"{i}.png", i)
    return tmp_path


def write(folder: Path, text: str, name: str = "ads.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def reasons(problems) -> dict[str, str]:
    return {problem.id: problem.reason for problem in problems}


def test_the_smallest_manifest(folder):
    table, problems = read_manifest(
        write(folder, "image,label\nimages/0.png,acceptable\nimages/1.png,Defective\nimages/2.png,\n")
    )
    assert len(problems) == 0
    assert table.table["id"].tolist() == ["images/0.png", "images/1.png", "images/2.png"]
    assert table.labels.tolist() == [1, 0, -1]
    assert table.table["split"].tolist() == ["unassigned", "unassigned", "unlabelled"]
    assert list(table.table) == ["image", "label", "id", "split", "phash"]
    assert table.images[0].shape == (3, 224, 224)
    assert np.array_equal(from_hex(table.table["phash"]), perceptual_hash(table.images.gather([0, 1, 2])))


def test_every_column_and_renamed_ones(folder):
    path = write(
        folder,
        "\ufeffAd,pic,verdict,title,when,who,views,part\n"
        'a1, images/0.png ,bad,"Cheap, ""new"" shoes",2024-05-01,acme,10,train\n'
        "a2,images/1.png,good,Sofas,2024-05-01 12:30:00+02:00,,2.5e3,teacher_val\n"
        "a3,images/2.png,good,,,acme,,unlabelled\n",
    )
    columns = Columns("pic", "verdict", "Ad", "title", "when", "who", "views", "part")
    table, problems = read_manifest(path, columns, {"good": 1, "bad": 0}, size=16)
    facts = table.table
    assert not problems.counts()
    assert facts["id"].tolist() == ["a1", "a2", "a3"]
    assert facts["label"].tolist() == [0, 1, -1]
    assert facts["split"].tolist() == ["train", "teacher_val", "unlabelled"]
    assert facts["headline"].tolist() == ['Cheap, "new" shoes', "Sofas", ""]
    assert facts["advertiser"].tolist() == ["acme", "", "acme"]
    times = pd.to_datetime(["2024-05-01T00:00Z", "2024-05-01T10:30Z", None], format="ISO8601", utc=True)
    assert facts["submitted_at"].equals(pd.Series(times))
    assert facts["impressions"].tolist()[:2] == [10, 2500]
    assert np.isnan(facts["impressions"][2])


def test_parquet_reads_like_csv(folder):
    facts = pd.DataFrame(
        {
            "image": [f"images/{i}.png" for i in range(4)],
            "label": pd.array([1, 0, None, 1], dtype="Int64"),
            "id": [7, 8, 9, 10],
            "submitted_at": pd.date_range("2024-01-01", periods=4),
            "impressions": [1, 2, 3, 4],
        }
    )
    facts.to_parquet(folder / "ads.parquet")
    facts.to_csv(folder / "ads.csv", index=False)
    labels = {"1": 1, "0": 0}
    one, problems = read_manifest(folder / "ads.parquet", labels=labels, size=16)
    other, _ = read_manifest(folder / "ads.csv", labels=labels, size=16)
    assert not problems.counts()
    assert one.labels.tolist() == [1, 0, -1, 1]
    assert one.table["id"].tolist() == ["7", "8", "9", "10"]
    pd.testing.assert_frame_equal(one.table, other.table)


def test_classes_of_whole_numbers_beside_missing_ones(folder):
    images = [f"images/{i}.png" for i in range(4)]
    pd.DataFrame({"image": images, "label": [10, 2, None, 1]}).to_parquet(folder / "stars.parquet")
    table, classes, _ = read_classes(folder / "stars.parquet", size=16)
    assert classes == ("1", "2", "10")
    assert table.labels.tolist() == [2, 1, -1, 0]


def test_bad_rows_are_left_out_and_listed(folder):
    path = write(
        folder,
        "id,image,label,split,submitted_at,impressions\n"
        "fine,images/0.png,acceptable,train,2024-01-01,1\n"
        "label,images/1.png,accptable,test,,\n"
        "none,images/1.png,acceptable,,,\n"
        "path,,acceptable,val,,\n"
        "fine,images\\0.png,defective,train,,\n"
        "gone,images/9.png,acceptable,train,,\n"
        "out,../secret.png,acceptable,train,,\n"
        "long,images/1.png,acceptable,train,,,,,\n"
        "short,images/3.png,\n",
    )
    table, problems = read_manifest(path, size=16)
    assert table.table["id"].tolist() == ["fine", "short"]
    assert table.table["split"].tolist() == ["train", "unlabelled"]
    assert reasons(problems) == {
        "label": "unknown_label", "none": "no_split", "path": "no_image", "fine": "duplicate_id",
        "gone": "missing", "out": "outside_root", "long": "bad_row",
    }  # fmt: skip
    details = {problem.id: problem.detail for problem in problems}
    assert details["label"] == "label is 'accptable'; allowed: acceptable, defective, unlabelled"


def test_what_people_write_is_read_and_a_bad_optional_cell_costs_no_row(folder):
    text = (
        "image;label;submitted_at;impressions;split\r\n"
        "images\\0.png;acceptable;13.05.2024 09:30;1.234,5;train\r\n"
        "images\\1.png;defective;01.06.2024;1.000;Validation\r\n"
        "images\\2.png;acceptable;yesterday;many;test\r\n"
        "images\\3.png;acceptable;;-3;train\r\n"
    )
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "cp1252"):
        path = folder / "export.csv"
        path.write_bytes(("sep=;\r\n" + text if encoding == "cp1252" else text).encode(encoding))
        table, problems = read_manifest(path, size=16)
        facts = table.table
        assert facts["image"].tolist() == [f"images/{row}.png" for row in range(4)]
        assert facts["split"].tolist() == ["train", "val", "test", "train"]
        assert facts["impressions"].tolist()[:2] == [1234.5, 1000]
        assert facts["submitted_at"][:2].tolist() == [
            pd.Timestamp("2024-05-13 09:30", tz="UTC"), pd.Timestamp("2024-06-01", tz="UTC")
        ]  # fmt: skip
        assert not problems.counts()
        assert [(problem.id, problem.reason) for problem in problems] == [
            ("images/2.png", "bad_time"), ("images/2.png", "bad_impressions"), ("images/3.png", "bad_impressions"),
        ]  # fmt: skip


def test_a_column_that_cannot_be_read_at_all_is_as_if_it_were_not_there(folder):
    path = write(
        folder, "image,label,submitted_at\nimages/0.png,acceptable,05/06/2024\nimages/1.png,defective,06/07/2024\n"
    )
    table, problems = read_manifest(path, size=16)
    assert "submitted_at" not in table.table
    assert problems.warnings() == [
        "warning: unclear time: 2 rows kept, such as images/0.png: submitted_at is '05/06/2024', whose day and month cannot be "
        "told apart: say which stands first by --dates day_first or month_first"
    ]
    table, problems = read_manifest(path, size=16, dates="month_first")
    assert table.table["submitted_at"].dt.month.tolist() == [5, 6]
    assert not problems.warnings()


@pytest.mark.parametrize("words", [("ok", "bad"), ("1", "0"), ("yes", "no")])
def test_unknown_labels_are_listed_with_the_flag_that_maps_them(folder, words):
    good, bad = words
    path = write(folder, f"image,label\nimages/0.png,{good}\nimages/1.png,{good}\nimages/2.png,{bad}\n")
    with pytest.raises(
        ValueError, match=rf"column 'label' of .*ads.csv holds '{good}' \(2\), '{bad}' \(1\); known are"
    ) as error:
        read_manifest(path, size=16)
    assert (
        f"""--labels '{{"{good}": ..., "{bad}": ...}}', where ... is the number of the class: 1 acceptable, 0"""
        in str(error.value)
    )
    table, _ = read_manifest(path, labels={good: 1, bad: 0}, size=16)
    assert table.labels.tolist() == [1, 1, 0]
    (folder / "rename" / good).mkdir(parents=True)
    save(folder / "rename" / good / "0.png")
    with pytest.raises(ValueError, match=f"the subfolders of .*rename holds '{good}'"):
        read_image_folder(folder / "rename", size=16)


def test_a_repeated_id_costs_no_image(folder):
    rows = ["a,images/0.png,what", "a,images/1.png,acceptable", "a,images/2.png,defective", "a,images/1.png,defective"]
    path = write(
        folder, "\n".join(["id,image,label", *rows, "a (2),images/3.png,acceptable", "a,images/0.png,acceptable"])
    )
    table, problems = read_manifest(path, size=16)
    assert table.table[["id", "image"]].values.tolist() == [
        ["a", "images/1.png"],
        ["a (3)", "images/2.png"],
        ["a (2)", "images/3.png"],
        ["a (4)", "images/0.png"],
    ]
    assert problems.counts() == {"unknown_label": 1, "duplicate_id": 1}
    assert problems.warnings() == [
        "warning: repeated id: 2 rows kept, such as a (3): the id 'a' comes several times; this row is called 'a (3)'",
        "warning: conflicting labels: 1 row kept, such as a: a later row of the same id and content is labelled 'defective'; "
        "the label 'acceptable' of the first row is used",
    ]
    table, problems = read_manifest(path, labels=None, size=16)  # new images: an answer for each row
    assert table.table["own_id"].tolist() == ["a", "a", "a", "a", "a (2)", "a"]
    assert table.table["id"].is_unique
    assert not list(problems)


def test_a_split_that_is_not_known_is_refused_at_once_but_not_for_new_images(folder):
    path = write(
        folder, "image,label,part\nimages/0.png,acceptable,trian\nimages/1.png,defective,train\nno.png,,Later\n"
    )
    columns = Columns(split="part")
    with pytest.raises(
        ValueError, match=r"column 'part' of .* holds 'trian' \(1\), 'later' \(1\); known are train, held_out, val"
    ):
        read_manifest(path, columns, size=16)
    assert len(read_manifest(path, columns, labels=None, size=16)[0]) == 2


def test_hostile_images_are_counted_and_end_nothing(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    grey16 = Image.fromarray(np.full((32, 32), 40_000, np.uint16))
    jpeg = hostile.encoded(hostile.photograph(), "JPEG")
    files = {
        "cmyk.jpg": (hostile.encoded(hostile.photograph().convert("CMYK"), "JPEG"), None),
        "16bit.png": (hostile.encoded(grey16, "PNG"), None),
        "palette.png": (hostile.palette_with_transparency(), None),
        "rotated.jpg": (hostile.encoded(hostile.photograph(), "JPEG", exif=exif), None),
        "png.jpg": (hostile.encoded(hostile.photograph(), "PNG"), None),
        "polyglot.jpg": (hostile.polyglot(), None),
        "empty.jpg": (b"", "empty"),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "text.jpg": (b"not an image at all", "format"),
        "animated.png": (hostile.animated("PNG"), "animated"),
        "animated.gif": (hostile.animated("GIF"), "format"),
        "many.gif": (hostile.long_gif(), "format"),
        "pixel.png": (hostile.encoded(Image.new("RGB", (1, 1)), "PNG"), "too_small"),
        "line.png": (hostile.encoded(Image.new("RGB", (1, 60_000)), "PNG"), "too_small"),
        "strip.png": (hostile.encoded(Image.new("RGB", (9, 60_000)), "PNG"), "aspect"),
        "bomb.png": (hostile.bomb(), "too_many_pixels"),
    }
    for name, (data, _) in files.items():
        (folder / "images" / name).write_bytes(data)
    os.mkfifo(folder / "images" / "pipe.jpg")
    files["pipe.jpg"] = (b"", "not_a_file")
    path = write(folder, "image,label\n" + "".join(f"images/{name},acceptable\n" for name in files))
    filters = list(warnings.filters)
    table, problems = read_manifest(path, size=16)
    assert warnings.filters == filters
    assert table.table["id"].tolist() == [f"images/{name}" for name, (_, why) in files.items() if why is None]
    assert reasons(problems) == {f"images/{name}": why for name, (_, why) in files.items() if why is not None}
    assert (folder / "problems.csv") == problems.write(folder)
    assert len(pd.read_csv(folder / "problems.csv")) == 11


def test_all_rows_may_fail(folder):
    table, problems = read_manifest(write(folder, "image,label\nno.png,acceptable\nimages/0.png,what\n"), size=16)
    assert len(table) == 0
    with pytest.raises(
        ValueError, match="only 0 images are left and 1 are needed; 2 left out: unknown_label 1, missing 1"
    ):
        problems.require(len(table), 1, "images")
    assert len(read_manifest(write(folder, "image,label\n"), size=16)[0]) == 0


def test_many_pixels_stay_on_disk(folder):
    path = write(folder, "image,label\nimages/0.png,acceptable\nno.png,acceptable\nimages/2.png,defective\n")
    kept, _ = read_manifest(path, size=16, memory_bytes=3 * 3 * 16 * 16)
    files, _ = read_manifest(path, size=16, memory_bytes=3 * 3 * 16 * 16 - 1)
    assert isinstance(kept.images, ImageArray)
    assert isinstance(files.images, ImageFiles)
    assert kept.images.gather([0, 1]).equal(files.images.gather([0, 1]))
    assert kept.table.equals(files.table)


def test_people_see_more_pixels_than_the_model_as_long_as_the_file_is_there(folder):
    path = write(folder, "image,label\nno.png,acceptable\nimages/0.png,acceptable\nimages/2.png,defective\n")
    kept, _ = read_manifest(path, size=16)
    files, _ = read_manifest(path, size=16, memory_bytes=0)
    for table in (kept, files):
        assert table.images.pictures([1]).equal(read_image(folder / "images" / "2.png", 160)[None])
    (folder / "images" / "2.png").unlink()
    assert kept.images.pictures([0, 1]).equal(kept.images.gather([0, 1]))


def test_labels_are_not_read_to_score_new_images(folder):
    table, problems = read_manifest(write(folder, "image\nimages/0.png\nimages/1.png\n"), labels=None, size=16)
    assert not problems.counts()
    assert table.labels.tolist() == [-1, -1]
    assert table.table["split"].tolist() == ["unlabelled"] * 2


def test_root_and_limits(folder):
    (folder / "lists").mkdir()
    path = write(folder, "image,label\n0.png,acceptable\n1.png,defective\n", "lists/ads.tsv".replace(".tsv", ".csv"))
    assert reasons(read_manifest(path, size=16)[1]) == {"0.png": "missing", "1.png": "missing"}
    assert len(read_manifest(path, root=folder / "images", size=16)[0]) == 2
    _, problems = read_manifest(path, root=folder / "images", size=16, limits=Limits(min_side=49))
    assert problems.counts() == {"too_small": 2}


def test_folder_of_folders(folder):
    for name in (
        "acceptable/b.png",
        "acceptable/sub/a.png",
        "Defective/x.png",
        "unlabelled/u.png",
        "other/o.png",
        "top.png",
    ):
        save(folder / "train" / name)
    (folder / "train" / "acceptable" / ".DS_Store").write_bytes(b"x")
    (folder / "train" / "acceptable" / "notes.txt").write_text("hello")
    table, problems = read_image_folder(folder / "train", size=16)
    assert dict(zip(table.table["id"], table.labels.tolist(), strict=True)) == {
        "Defective/x.png": 0, "acceptable/b.png": 1, "acceptable/sub/a.png": 1, "unlabelled/u.png": -1,
    }  # fmt: skip
    assert table.table["id"].tolist() == sorted(table.table["id"])
    assert reasons(problems) == {
        "acceptable/notes.txt": "format", "other/o.png": "unknown_label", "top.png": "no_label",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        (
            "image,labels\n",
            Columns(),
            r"no column 'label' for 'label' .*; it has: image, labels; did you mean 'labels'\?",
        ),
        ("pics,label\n", Columns(), "no column 'image'.*columns.image"),
        ("image,label\n", Columns(headline="title"), "no column 'title' for 'headline'"),
        ("", Columns(), "is empty: it needs a line of column names"),
    ],
)
def test_missing_columns(folder, text, columns, message):
    with pytest.raises(ValueError, match=message):
        read_manifest(write(folder, text), columns)


def test_missing_files(folder):
    write(folder, "image,label\n")
    with pytest.raises(FileNotFoundError, match=r"no manifest .*asd.csv; did you mean 'ads.csv'\?"):
        read_manifest(folder / "asd.csv")
    with pytest.raises(FileNotFoundError, match="no folder"):
        read_image_folder(folder / "none")
    with pytest.raises(ValueError, match=r"'.xlsx': give a .csv"):
        read_manifest(write(folder, "x", "ads.xlsx"))


def test_not_utf8_still_reads(folder):
    path = folder / "latin.csv"
    path.write_bytes("image,label,headline\nimages/0.png,acceptable,Café\n".encode("latin-1"))
    assert len(read_manifest(path, size=16)[0]) == 1


def test_the_picture_does_not_depend_on_the_path_taken(folder):
    table, _ = read_manifest(write(folder, "image,label\nimages/3.png,acceptable\n"), size=64)
    expected = Image.open(io.BytesIO((folder / "images" / "3.png").read_bytes())).resize(
        (64, 64), Image.Resampling.BICUBIC
    )
    assert np.array_equal(table.images[0].permute(1, 2, 0), np.asarray(expected))


def test_weights_are_read_where_they_are_asked_for(folder):
    path = write(
        folder,
        "image,label,weight\nimages/0.png,acceptable,2.5\nimages/1.png,defective,\nimages/2.png,defective,0\n"
        "images/3.png,defective,-1\nimages/4.png,acceptable,3 kg\nimages/5.png,acceptable,inf\n",
    )
    images, problems = read_manifest(path, weighted=True)
    assert images.table["weight"].tolist() == [2.5, 1.0, 0.0]
    assert [(each.id, each.reason) for each in problems] == [(f"images/{k}.png", "bad_weight") for k in (3, 4, 5)]
    assert next(iter(problems)).detail == "weight is '-1'; allowed: a number from 0"
    others, none = read_manifest(path)
    assert (len(others), len(none), "weight" in others.table) == (6, 0, False)
    assert images.identity()[1].columns.tolist() == ["id", "label", "split", "weight"]
    assert others.identity()[1].columns.tolist() == ["id", "label", "split"]
    renamed = write(folder, "image,label,times\nimages/0.png,acceptable,2\n", "renamed.csv")
    assert read_manifest(renamed, Columns(weight="times"), weighted=True)[0].table["weight"].tolist() == [2.0]
    alone = write(folder, "image,label,weight\nimages/0.png,acceptable,\n", "alone.csv")
    assert "weight" not in read_manifest(alone, weighted=True)[0].table
