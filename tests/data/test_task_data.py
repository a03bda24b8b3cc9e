"""Loaders of data with several labels, each on files made here in its official layout."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tutelage.data import (
    Rows,
    TensorData,
    Turned,
    cub_200,
    movielens,
    nyuv2_rooms,
    oxford_pets,
    product_attributes,
    ratings_csv,
    read_label_columns,
)
from tutelage.data.fields import FieldCodes
from tutelage.data.nyuv2 import CENTRE, FOCAL, METRES, normals_of
from tutelage.data.rotation import turned


def flat(shade: int, size: tuple[int, int] = (16, 16), kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (shade,) * 3).save(stream, kind)
    return stream.getvalue()


def test_rows_keep_the_index_of_the_whole():
    whole = TensorData(input=torch.arange(10) * 10, label=torch.arange(10))
    some = Rows(whole, torch.tensor([7, 2, 5]))
    assert len(some) == 3
    assert some[1] == {"index": 2, "input": 20, "label": 2}
    batch = some.batch([2, 0])
    assert batch["index"].tolist() == [5, 7]
    assert batch["input"].tolist() == [50, 70]


def test_images_are_turned_counter_clockwise():
    image = torch.tensor([[1, 2], [3, 4]]).expand(4, 1, 2, 2)
    found = turned(image, torch.arange(4))
    assert found[:, 0].tolist() == [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]
    with pytest.raises(ValueError, match="2 x 3: only square ones can be turned"):
        turned(torch.zeros(1, 3, 2, 3), torch.tensor([1]))


def test_a_turned_data_set_tells_how_far_and_keeps_labels():
    images = torch.randint(0, 256, (64, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    examples = Turned(Rows(TensorData(input=images, label=torch.arange(64)), torch.arange(63, -1, -1)))
    torch.manual_seed(0)
    batch = examples.batch(list(range(64)))
    assert sorted(batch["rotation"].unique().tolist()) == [0, 1, 2, 3]
    few = Turned(TensorData(input=images[:1].expand(4000, -1, -1, -1)), 0.3).batch(list(range(4000)))["rotation"]
    shares = torch.bincount(few, minlength=4) / 4000
    torch.testing.assert_close(shares, torch.tensor([0.7, 0.1, 0.1, 0.1]), atol=0.03, rtol=0)
    assert batch["label"].tolist() == list(range(63, -1, -1))
    assert torch.equal(turned(batch["input"], -batch["rotation"] % 4), images.flip(0))
    torch.manual_seed(0)
    assert torch.equal(examples.batch(list(range(64)))["input"], batch["input"])
    assert examples[0]["input"].shape == (3, 4, 4)
    assert torch.equal(examples.index, torch.arange(63, -1, -1))


@pytest.fixture
def grouplens(tmp_path):
    (tmp_path / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n9::M::25::15::55117\n")
    (tmp_path / "movies.dat").write_text("7::Toy Story (1995)::Animation|Comedy\n30::Léon (1994)::Crime\n", "latin-1")
    (tmp_path / "ratings.dat").write_text("1::7::5::97\n1::30::3::98\n2::30::1::99\n9::7::4::99\n9::30::3::99\n")
    return tmp_path


def test_movielens_in_both_layouts(grouplens):
    found = movielens(grouplens)
    assert found.names == ("movie", "genre", "user", "gender", "age", "occupation")
    assert found.rating.tolist() == [5, 1, 4]  # without the threes
    assert found.fields.tolist() == [[0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 2, 2], [0, 0, 2, 1, 1, 1]]
    assert found.sizes == (2, 2, 3, 2, 3, 3)
    whole = movielens(grouplens, without=None)
    assert len(whole) == 5
    (grouplens / "ratings.dat").unlink()
    table = pd.DataFrame({"user": [1, 1, 2, 9, 9], "movie": [7, 30, 30, 7, 30], "rating": [5, 3, 1, 4, 3]})
    table.astype({"user": "uint16", "movie": "uint16", "rating": "uint8"}).to_parquet(grouplens / "ratings.parquet")
    again = movielens(grouplens)
    assert torch.equal(again.fields, found.fields)
    assert torch.equal(again.rating, found.rating)
    assert again.sizes == found.sizes


def test_a_sample_of_users_has_all_of_their_ratings(grouplens):
    found = movielens(grouplens, without=None, users=2, seed=1)
    whole = movielens(grouplens, without=None)
    assert found.sizes[2] == 2
    assert len(found) in (3, 4)
    assert len(whole) == 5
    assert torch.equal(movielens(grouplens, without=None, users=2, seed=1).fields, found.fields)
    with pytest.raises(ValueError, match="users=4: there are 3"):
        movielens(grouplens, users=4)


def test_what_movielens_misses_is_named(grouplens, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"users\.dat"):
        movielens(tmp_path / "nowhere")
    (grouplens / "movies.dat").write_text("7::Toy Story (1995)::Animation\n")
    with pytest.raises(ValueError, match="user 1 or movie 30 has a rating and no entry"):
        movielens(grouplens)
    (grouplens / "movies.dat").write_text("7;Toy Story\n")
    with pytest.raises(ValueError, match="the line '7;Toy Story' does not have 3 columns"):
        movielens(grouplens)


@pytest.mark.parametrize("header", ["", "user,item,rating,timestamp\n"])
def test_a_table_of_ratings(header, tmp_path):
    (tmp_path / "r.csv").write_text(
        header + "A39H,0205616461,5.0,1369699200\nA3JM,0558925278,2.5,1355443200\nA39H,0558925278,1,1\n"
    )
    found = ratings_csv(tmp_path / "r.csv")
    assert found.names == ("item", "user")
    assert found.fields.tolist() == [[0, 0], [1, 1], [1, 0]]
    assert found.rating.tolist() == [5.0, 2.5, 1.0]
    assert found.sizes == (2, 2)


def test_what_a_table_of_ratings_misses_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.csv"):
        ratings_csv(tmp_path / "none.csv")
    (tmp_path / "r.csv").write_text("who,item,rating\na,b,1\n")
    with pytest.raises(ValueError, match="no column 'user'; it has: who, item, rating"):
        ratings_csv(tmp_path / "r.csv")
    (tmp_path / "r.csv").write_text("a,b,1\na,c,good\n")
    with pytest.raises(ValueError, match="rating 'good' of row 1 is no number"):
        ratings_csv(tmp_path / "r.csv")


def test_rooms(tmp_path):
    depth = np.full((2, 72, 96), 51, dtype=np.uint8)
    depth[1, 5] = 0
    classes = np.zeros((2, 72, 96), dtype=np.uint8)
    classes[0, 3, 4], classes[1, 7, 8] = 13, 1
    table = {
        "image": [flat(10, (96, 72)), flat(200, (96, 72))],
        "depth": [d.tobytes() for d in depth],
        "segmentation13": [c.tobytes() for c in classes],
        "split": ["train", "test"],
    }
    pd.DataFrame(table).to_parquet(tmp_path / "nyuv2.parquet")
    found = nyuv2_rooms(tmp_path)
    assert found.images.shape == (2, 3, 72, 96)
    assert found.images.float().mean((1, 2, 3)).tolist() == [10, 200]
    assert (found.segmentation >= 0).sum() == 2
    assert (found.segmentation[0, 3, 4], found.segmentation[1, 7, 8]) == (12, 0)
    assert torch.isnan(found.depth).sum() == 96
    torch.testing.assert_close(found.depth[0, 0, 0], torch.tensor(51 * METRES), atol=1e-6, rtol=0)
    assert list(found.split) == ["train", "test"]
    with pytest.raises(FileNotFoundError, match=r"holds no nyuv2\.parquet"):
        nyuv2_rooms(tmp_path / "nowhere")


def test_normals_of_a_wall_seen_at_an_angle():
    """A plane a x + b y + c z = 1, whose depth at each pixel is known in closed form."""
    plane = np.array([0.2, -0.1, 0.4])
    u = (np.arange(96) + 0.5 - 0.15 * CENTRE[0]) / (0.15 * FOCAL[0])
    v = (np.arange(72) + 0.5 - 0.15 * CENTRE[1]) / (0.15 * FOCAL[1])
    z = 1 / (plane[0] * u[None] + plane[1] * v[:, None] + plane[2])
    depth = torch.from_numpy(z)[None]
    found = normals_of(depth, smoothing=1)[0, :, 1:-1, 1:-1]
    towards_camera = torch.from_numpy(-plane / np.linalg.norm(plane))
    torch.testing.assert_close(found, towards_camera[:, None, None].expand_as(found), atol=1e-9, rtol=0)
    depth[0, 30, 40] = torch.nan
    found = normals_of(depth)[0]
    assert (found[:, 29:32, 39:42] == 0).all()
    lengths = found.norm(dim=0)
    assert ((lengths - 1).abs() < 1e-6).sum() == 70 * 94 - 9


def test_pets_in_both_layouts(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations" / "trainval.txt").write_text("# a comment\nAbyssinian_1 1 1 1\nshiba_inu_2 2 2 1\n")
    (tmp_path / "annotations" / "test.txt").write_text("shiba_inu_3 2 2 1\n")
    for shade, name in enumerate(["Abyssinian_1", "shiba_inu_2", "shiba_inu_3"]):
        (tmp_path / "images" / f"{name}.jpg").write_bytes(flat(50 * shade, kind="JPEG"))
    found = oxford_pets(tmp_path, 8)
    assert found.table["label"].tolist() == [0, 1, 1]
    assert found.table["name"].tolist() == ["Abyssinian", "shiba_inu", "shiba_inu"]
    assert found.table["split"].tolist() == ["train", "train", "test"]
    assert found.images[2].float().mean() == 100
    (tmp_path / "annotations" / "test.txt").write_text("shiba_inu_3\n")
    with pytest.raises(ValueError, match="the line 'shiba_inu_3' is not NAME CLASS SPECIES BREED"):
        oxford_pets(tmp_path)
    (tmp_path / "annotations" / "test.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"neither pets\.parquet nor annotations/test\.txt"):
        oxford_pets(tmp_path)
    cells = {"image": [flat(10), flat(20), flat(30)], "name": ["pug", "beagle", "pug"], "label": [3, 1, 3]}
    pd.DataFrame(cells).to_parquet(tmp_path / "pets.parquet")
    found = oxford_pets(tmp_path, 8)
    assert found.table["label"].tolist() == [1, 0, 1]
    assert found.images[1].unique().tolist() == [20]


def test_birds(tmp_path):
    birds = {
        "images.txt": "1 001.Albatross/a.jpg\n2 002.Auk/b c.jpg\n3 002.Auk/d.jpg\n",
        "image_class_labels.txt": "1 1\n2 2\n3 2\n",
        "train_test_split.txt": "1 1\n2 0\n3 1\n",
        "attributes/attributes.txt": "1 has_bill_shape::curved\n2 has_bill_shape::hooked\n"
        "3 has_wing_color::blue\n4 has_wing_color::brown\n5 has_wing_color::grey\n",
        "attributes/image_attribute_labels.txt": "1 1 0 3 5.2\n1 2 1 4 1.1\n1 3 1 3 2.0\n1 5 1 4 2.0 0\n"
        "2 1 1 1 7.0\n2 4 1 3 2.2\n3 2 1 2 1.0\n3 3 0 4 0.5\n",
    }
    for name, text in birds.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = cub_200(tmp_path, 8).table
    assert found["label"].tolist() == [0, 1, 1]
    assert found["split"].tolist() == ["train", "test", "train"]
    assert found["id"].tolist()[1] == "002.Auk/b c.jpg"
    assert found["has_bill_shape"].tolist() == [1, -1, -1]  # not visible; a guess
    assert found["has_wing_color"].tolist() == [2, 1, -1]  # the surer of two
    with pytest.raises(
        ValueError, match=r"attributes=\['has_tail'\] are not in .*; there are: has_bill_shape, has_wing_color"
    ):
        cub_200(tmp_path, attributes=["has_tail"])
    with pytest.raises(FileNotFoundError, match=r"images\.txt"):
        cub_200(tmp_path / "nowhere")


def test_products_with_their_attributes(tmp_path):
    kinds = ["Belts"] * 5 + ["Ties"] * 4 + ["Umbrellas"]
    shop = pd.DataFrame(
        {"id": range(10), "articleType": kinds, "image": [flat(20 * i, kind="JPEG") for i in range(10)]}
    )
    shop["baseColour"] = ["Red", "Blue", None, "Red", "Red", "Blue", "Blue", "Red", "Green", "Red"]
    shop["season"], shop["gender"] = ["Summer", "Winter"] * 5, ["Men"] * 9 + ["Women"]
    shop.to_parquet(tmp_path / "products.parquet")
    found = product_attributes(tmp_path, least=4, size=(6, 6))
    assert len(found) == 9
    facts = found.table
    assert facts["article_type"].tolist() == kinds[:9]
    assert facts["label"].tolist() == [0] * 5 + [1] * 4
    assert facts["colour"].tolist() == [2, 0, -1, 2, 2, 0, 0, 2, 1]
    assert facts["season"].tolist() == [0, 1] * 4 + [0]
    assert [round(float(found.images[i].float().mean()) / 20) for i in range(9)] == list(range(9))
    few = product_attributes(tmp_path, least=4, max_rows=3, seed=1)
    assert len(few) == 3
    assert set(few.table["id"]) < set(facts["id"])
    with pytest.raises(ValueError, match="least=9: no article type has so many photographs; the most frequent has 5"):
        product_attributes(tmp_path, least=9)


def test_a_table_with_several_label_columns(tmp_path):
    for shade in range(4):
        (tmp_path / f"{shade}.png").write_bytes(flat(shade))
    (tmp_path / "broken.png").write_bytes(b"nothing")
    rows = [
        "0.png,cat,red,1.5,train",
        "1.png,dog,,,val",
        "broken.png,dog,red,1,train",
        "2.png,,blue,x,train",
    ]
    (tmp_path / "table.csv").write_text("\n".join(["image,kind,colour,weight,split", *rows]) + "\n")
    found = read_label_columns(tmp_path / "table.csv", classes=["kind", "colour"], numbers=["weight"], size=8)
    assert len(found) == 3
    assert found.labels["kind"].tolist() == [0, 1, -1]
    assert found.labels["colour"].tolist() == [1, -1, 0]
    assert found.classes == {"kind": ["cat", "dog"], "colour": ["blue", "red"]}
    assert found.labels["weight"][0] == 1.5
    assert torch.isnan(found.labels["weight"][1:]).all()
    assert found.split == ["train", "val", "train"]
    assert [found.images.images[i].float().mean() for i in range(2)] == [0, 1]
    assert found.problems.counts() == {"format": 1}
    assert found.problems.warnings() == [
        "warning: bad number: 1 row kept, such as 2.png: weight is 'x', which is no finite number: an absent label"
    ]
    lazy = read_label_columns(tmp_path / "table.csv", classes=["kind"], size=8, memory_bytes=0)
    assert lazy.images.images[1].float().mean() == 1
    with pytest.raises(ValueError, match="no column 'kinds'; it has: image, kind, colour, weight, split"):
        read_label_columns(tmp_path / "table.csv", classes=["kinds"])
    (tmp_path / "table.csv").write_text("image,kind,split\n0.png,cat,train\n1.png,dog,tset\n2.png,,unlabelled\n")
    with pytest.raises(
        ValueError, match=r"column 'split' of .*table.csv holds 'tset' \(1\); known are train, held_out, val, test"
    ):
        read_label_columns(tmp_path / "table.csv", classes=["kind"], size=8)


def test_a_table_of_fields(tmp_path):
    table = pd.DataFrame({"who": ["a", "b", "a"], "what": [3, 1, 1], "stars": [1.0, None, 5.0]})
    table.to_parquet(tmp_path / "table.parquet")
    found = read_label_columns(tmp_path / "table.parquet", numbers=["stars"], fields=["who", "what"])
    assert found.images is None
    assert found.fields.tolist() == [[0, 1], [1, 0], [0, 0]]
    assert found.codes == FieldCodes({"who": ["a", "b"], "what": ["1", "3"]}, {})
    assert torch.isnan(found.labels["stars"]).tolist() == [False, True, False]
    assert found.split == ["", "", ""]
    assert found.id == ["0", "1", "2"]
